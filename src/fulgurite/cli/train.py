"""`fulgurite train`: overrides through Hydra, one process or several, resumed or fresh."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from fulgurite.cli import flags
from fulgurite.config.compose import compose
from fulgurite.config.hydra_app import hydra_main
from fulgurite.config.overrides import verbatim
from fulgurite.config.provenance import Composed
from fulgurite.errors import ConfigError
from fulgurite.plan.preflight import checked_source, refuse_impossible
from fulgurite.run.stored_words import restore_words
from fulgurite.text.console import say
from fulgurite.trainer.config import available


def train_main(words: list[str]) -> int:
    """Compose, then train; returns the exit status. Raises FulguriteError."""
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # before torch allocates: it lowers the peak on a CPU (README, Memory)
    _check_ranks()
    asked = flags.read(words)
    if asked.needs_hydra:
        return hydra_main(_job, asked.overrides, asked.words(), asked.config_dir)
    composed = compose(restore_words(asked.overrides), asked.config_dir)
    processes = getattr(composed.run.trainer, "processes", 1)
    if processes > 1 and "RANK" not in os.environ:
        return _launched(composed, asked, processes)
    return _job(composed)


def _check_ranks() -> None:
    """Raise ConfigError where the environment has a rank that is none."""
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        if (value := os.environ.get(name, "")) and not value.isdecimal():
            raise ConfigError(f"{name}={value} in the environment is no whole number; a launcher sets it, so unset {name} here.")
        if not value:
            os.environ.pop(name, None)


def _alone() -> None:
    """Forget the rank that a launcher or a shell has left in the environment: a run of one process would take a share of each step.

    Raises ConfigError where several such processes were started, which would all train the same.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            f"WORLD_SIZE={os.environ['WORLD_SIZE']} was set by a launcher, and this trainer has one process; take trainer=ddp_cpu "
            "trainer.processes=..., which starts its own, or start fulgurite without torchrun."
        )
    for name in ("RANK", "LOCAL_RANK"):
        os.environ.pop(name, None)


def _launched(composed: Composed, asked: flags.Flags, processes: int) -> int:
    """The exit status of several processes of the same command, all in one run folder."""
    from fulgurite.run.folder import run_folder
    from fulgurite.train.launcher import launch

    refuse_impossible(composed.run)
    if processes > (cores := available()):
        say(f"warning: trainer.processes={processes} on {cores} core{'s' * (cores > 1)}: they take turns, which is slower than fewer.")
    folder = run_folder(composed.run)
    same = [o for o in composed.overrides if not o.startswith("run_dir=")]
    status = launch(["train", *asked.words(), *same, f"run_dir={verbatim(folder)}"], processes, folder)
    if status and composed.run.run_dir is None and composed.run.resume.run is None:
        _forget(folder)
    return status


def _forget(folder: Path) -> None:
    """Remove the folder of a run that never began, and those that were made for it."""
    with contextlib.suppress(OSError):  # one of them is not empty
        for place in (folder, folder.parent, folder.parent.parent):
            place.rmdir()


def _job(composed: Composed) -> int:
    if getattr(composed.run.trainer, "processes", 1) == 1:
        _alone()
    if composed.multirun and getattr(composed.run.trainer, "processes", 1) > 1:
        raise ConfigError("trainer=ddp_cpu cannot be part of -m: its ranks would train different trials; run the values one by one.")
    source = checked_source(composed)
    from fulgurite.train.experiment import Experiment  # loads torch, which takes seconds: after all that can be refused without it

    Experiment(composed, source).fit()
    return 0
