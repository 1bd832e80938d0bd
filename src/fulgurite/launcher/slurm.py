"""Writes a batch script of Slurm for a run, and submits it.

submitit (1.5) was looked at and does not fit: its script starts `python -m submitit.core._submit` on a pickled
function, so a person cannot read what will run, nor submit it again, and it answers SIGUSR1 itself, by another pickle.
Without these two it would only call sbatch.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from fulgurite.errors import RequestError
from fulgurite.files.atomic import write_output
from fulgurite.language.library_errors import quote_foreign, translate_error
from fulgurite.language.message import message
from fulgurite.launcher.config import BEFORE_LIMIT, SlurmLauncher
from fulgurite.launcher.request import LaunchRequest, forget_folder
from fulgurite.run.folder import make_folder
from fulgurite.strategy.ranks import STARTED_BY
from fulgurite.text.console import show

SCRIPT = "job.sh"
PATIENCE = 120.0
"""Seconds that sbatch may take: it waits for a busy controller."""


def submit(config: SlurmLauncher, request: LaunchRequest) -> int:
    """Writes `job.sh` into the run folder, submits it, and prints the number of the job and the folder. Returns 0.

    Raises RequestError if there is no sbatch or it refuses the script; a folder made for the run is removed then.
    """
    request.check()
    if config.submit and shutil.which("sbatch") is None:
        raise RequestError(
            "launcher=slurm needs sbatch, which this machine does not have; run the command on a login node of the "
            "cluster, or add launcher.submit=false to write the script only."
        )
    folder = request.choose_folder().absolute()
    make_folder(folder)
    script = folder / SCRIPT
    try:
        write_output(script, format_script(config, request, folder))
        job = _submit_script(script) if config.submit else ""
    except RequestError:
        if request.is_fresh:
            script.unlink(missing_ok=True)
            forget_folder(folder)
        raise
    if job:
        show(message("Slurm job {job}, run folder {folder}", job=job, folder=folder))
    else:
        show(message("Written and not submitted: {script}", script=script))
    return 0


def format_script(config: SlurmLauncher, request: LaunchRequest, folder: Path) -> str:
    """Returns the batch script. It contains the words and no variable of the environment, which sbatch hands on."""
    # kill-on-bad-exit: the other ranks would wait for a failed one until the time limit; since Slurm 22.05 srun no
    # longer takes --cpus-per-task from the job, so that it is given to both
    command = ["srun", "--kill-on-bad-exit=1", *_give("--cpus-per-task", config.cpus_per_task)]
    command += [sys.executable, "-m", "fulgurite", *request.add_folder(folder)]
    return "\n".join([
        "#!/bin/bash",
        "# Written by `fulgurite train launcher=slurm`. To submit it again:",
        f"#   sbatch {shlex.quote(str(folder / SCRIPT))}",
        *(f"#SBATCH {_quote_option(option)}" for option in [*_list_options(config, request, folder), *config.options]),
        "",
        "set -e",
        *config.setup,
        f"export {STARTED_BY}=slurm",
        shlex.join(command),
        "",
    ])


def _list_options(config: SlurmLauncher, request: LaunchRequest, folder: Path) -> list[str]:
    """Returns the options of sbatch for this run."""
    return [
        f"--job-name={request.name or 'fulgurite'}",
        f"--chdir={Path.cwd()}",
        # a % would begin a pattern such as %j
        f"--output={str(folder).replace('%', '%%')}/slurm-%j.log",
        # a job that is queued again goes on with the same log
        "--open-mode=append",
        f"--nodes={request.num_nodes}",
        f"--ntasks-per-node={request.devices}",
        *_give("--gpus-per-node", request.devices if request.uses_gpu else None),
        *_give("--cpus-per-task", config.cpus_per_task),
        *_give("--partition", config.partition),
        *_give("--account", config.account),
        *_give("--time", config.time),
        # without `B:` before USR1 the ranks get it, and not the script
        f"--signal=USR1@{BEFORE_LIMIT}",
        "--requeue" if config.requeue else "--no-requeue",
    ]


def _give(name: str, value: object) -> list[str]:
    return [] if value is None else [f"{name}={value}"]


def _quote_option(option: str) -> str:
    """Quotes the value of an option if sbatch would cut it at a space or a #."""
    if not re.search(r"[\s#'\"\\]", option):
        return option
    name, equals, value = option.partition("=")
    return f"{name}{equals}{shlex.quote(value)}"


def _submit_script(script: Path) -> str:
    """Returns the number of the job. Raises RequestError."""
    try:
        done = subprocess.run(
            ["sbatch", "--parsable", str(script)], capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        why = quote_foreign(done.stderr or done.stdout, 600)
    except (OSError, subprocess.TimeoutExpired) as error:
        done, why = None, translate_error(error, 600)
    if done is None or done.returncode:
        raise RequestError("sbatch refused the job: {reason}", reason=why)
    # --parsable prints `number;cluster` if there are several clusters
    return done.stdout.strip().partition(";")[0]
