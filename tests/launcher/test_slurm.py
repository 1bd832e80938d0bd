"""launcher=slurm: the batch script, its submission, and a job of two tasks. sbatch, srun and scontrol are fakes."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.cli.requests import TINY, read_refusal
from tests.end_to_end.runs import losses, tiny
from tests.strategy.test_build import free_port
from tests.strategy.test_slurm_job import write_scontrol

from fulgurite.cli.main import main
from fulgurite.config.compose import compose
from fulgurite.launcher.request import LaunchRequest
from fulgurite.launcher.slurm import format_script

REQUEST = LaunchRequest(("train", "launcher=slurm", "data.path=a b.jsonl"), 8, 2, "one", None, None, uses_gpu=True)
FEW = [*TINY, "plan.allow=[steps.too-few]", "launcher=slurm"]

SBATCH = """#!/bin/bash
# A queue that starts its jobs at once; the number of tasks is read from the script.
[ "$1" = --parsable ] || exit 9
tasks=$(sed -n 's/^#SBATCH --ntasks-per-node=//p' "$2")
export SLURM_JOB_ID=4711 SLURM_JOB_NAME=train SLURM_NTASKS=$tasks SLURM_NTASKS_PER_NODE=$tasks SLURM_NNODES=1
export SLURM_NODEID=0 SLURM_NODELIST=127.0.0.1 ENVIRONMENT=BATCH
bash "$2" > "$(dirname "$2")/slurm-4711.log" 2>&1
echo $? > "$(dirname "$2")/status-of-job"
echo "4711;cluster"
"""
SRUN = """#!/bin/bash
while [[ "$1" == --* ]]; do shift; done
for task in $(seq 0 $((SLURM_NTASKS - 1))); do
  SLURM_STEP_ID=0 SLURM_PROCID=$task SLURM_LOCALID=$task "$@" &
  started+=($!)
done
status=0
for process in "${started[@]}"; do wait "$process" || status=$?; done
exit $status
"""
HALT = """
import os, signal
from fulgurite.callback.signals import SignalHandler
inner = SignalHandler.on_train_batch_start
def asked(self, trainer, *rest):
    if trainer.global_step == 2 and os.environ.get("SLURM_PROCID") == "1" and "SLURM_RESTART_COUNT" not in os.environ:
        self.asked = signal.SIGUSR1
    inner(self, trainer, *rest)
SignalHandler.on_train_batch_start = asked
"""


def make_programs(folder: Path, monkeypatch: pytest.MonkeyPatch, **texts: str) -> None:
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_the_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_API_KEY", "not-for-scripts")
    config = compose([
        "launcher=slurm", "launcher.partition=gpu", "launcher.account=lab", "launcher.time=04:00:00",
        "launcher.cpus_per_task=6", "launcher.options=[--mem=64G,--comment=a note]",
        "launcher.setup=['module load cuda']",
    ]).run.launcher
    folder = Path("/data/my runs/a%b")
    text = format_script(config, REQUEST, folder)
    assert text.splitlines()[3:] == [
        "#SBATCH --job-name=one", f"#SBATCH --chdir={tmp_path}", "#SBATCH --output='/data/my runs/a%%b/slurm-%j.log'",
        "#SBATCH --open-mode=append", "#SBATCH --nodes=2", "#SBATCH --ntasks-per-node=8", "#SBATCH --gpus-per-node=8",
        "#SBATCH --cpus-per-task=6", "#SBATCH --partition=gpu", "#SBATCH --account=lab", "#SBATCH --time=04:00:00",
        "#SBATCH --signal=USR1@120", "#SBATCH --requeue", "#SBATCH --mem=64G", "#SBATCH --comment='a note'", "",
        "set -e", "module load cuda", "export FULGURITE_STARTED_BY=slurm",
        f"srun --kill-on-bad-exit=1 --cpus-per-task=6 {sys.executable} -m fulgurite train launcher=slurm "
        "'data.path=a b.jsonl' " + shlex.quote("run_dir='/data/my runs/a%b'"),
    ]
    assert "not-for-scripts" not in text
    assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0
    plain = format_script(
        compose(["launcher=slurm", "launcher.requeue=false"]).run.launcher, replace(REQUEST, uses_gpu=False), folder
    )
    assert "--no-requeue" in plain
    assert "gpus" not in plain
    assert "partition" not in plain


def test_without_sbatch_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "launcher=slurm needs sbatch, which this machine does not have" in read_refusal(["train", *FEW], capsys)
    make_programs(tmp_path / "bin", monkeypatch, sbatch="#!/bin/bash\necho 'Invalid account' >&2; exit 1\n")
    assert "sbatch refused the job: Invalid account" in read_refusal(["train", *FEW], capsys)
    assert "refused" in read_refusal(["train", *FEW, "run_dir=mine"], capsys)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", "mine"]


def test_what_plan_refuses_is_not_submitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make_programs(tmp_path / "bin", monkeypatch, sbatch="#!/bin/bash\ntouch submitted\n")
    assert "[rate.out-of-band]" in read_refusal(["train", *FEW, "optim.lr=0.5"], capsys)
    assert "launcher.time=4h" in read_refusal(["train", *FEW, "launcher.time=4h"], capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["bin"]


def test_a_script_may_only_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    assert main(["train", *FEW, "launcher.submit=false", f"run_dir={folder}"]) == 0
    assert capsys.readouterr().out == f"Written and not submitted: {folder}/job.sh\n"
    assert [path.name for path in folder.iterdir()] == ["job.sh"]


SGD = {"optim": "sgd", "optim.lr": "1e-3", "trainer.micro_batch_size": "2", "trainer.global_batch_size": "4",
       "trainer.max_steps": "4", "data.max_samples": "30", "data.val_fraction": "0", "stage.prompts": "[]",
       "precision": "fp32", "callback": "none", "plan.allow": "[steps.too-few]", "trainer.accelerator": "cpu"}


@pytest.mark.slow
def test_a_job_of_two_tasks_is_requeued_and_ends_with_the_losses_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second task gets SIGUSR1 before step 3; the script that is started again continues the run."""
    words = [f"{name}={value}" for name, value in SGD.items()]
    one = tiny(tmp_path / "one", *words)
    make_programs(tmp_path / "bin", monkeypatch, sbatch=SBATCH, srun=SRUN)
    monkeypatch.setattr("fulgurite.launcher.slurm.PATIENCE", 600.0)  # this queue waits for the job
    asked = write_scontrol(tmp_path / "bin", "exit 0")
    (tmp_path / "halt.py").write_text(HALT)
    shared: dict[str, Any] = {
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}", "MASTER_PORT": free_port(),
        "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1",
    }
    for name, value in shared.items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    own = ["model=tiny", *words, "launcher=slurm", "trainer.devices=2", "plugins=[halt]"]
    assert main(["train", *own]) == 0
    [folder] = [path.parent for path in tmp_path.glob("runs/*/*/status.json")]
    log = (folder / "slurm-4711.log").read_text()
    assert capsys.readouterr().out == f"Slurm job 4711, run folder {folder}\n"
    assert (folder / "status-of-job").read_text() == "143\n", log
    assert asked.read_text() == "requeue 4711\n"
    assert log.count("back in the queue") == 1
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    subprocess.run([tmp_path / "bin" / "sbatch", "--parsable", folder / "job.sh"], check=True, capture_output=True)
    assert (folder / "status-of-job").read_text() == "0\n", (folder / "slurm-4711.log").read_text()
    assert losses(folder) == pytest.approx(losses(one), rel=1e-6)
    assert len(losses(folder)) == 4
