"""`fulgurite train`: overrides through Hydra, one process or several, resumed or fresh."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from fulgurite.cli import flags
from fulgurite.cli.parser import list_flags
from fulgurite.cli.typed import check_typed
from fulgurite.config.compose import compose
from fulgurite.config.hydra_app import hydra_main
from fulgurite.config.override_names import read_name
from fulgurite.config.provenance import Composed
from fulgurite.config.schema import build
from fulgurite.language.message import message
from fulgurite.launcher.config import LocalLauncher
from fulgurite.launcher.request import LaunchRequest
from fulgurite.plan.preflight import build_checked_source, refuse_impossible
from fulgurite.run.folder import refuse_unwritable
from fulgurite.run.restarted import continue_words, find_finished
from fulgurite.run.stored_words import restore_words
from fulgurite.strategy.ranks import STARTED_BY, Ranks, Starter, check_started, refuse_several, settle
from fulgurite.text.console import say, set_verbose

ENDED: list[Path] = []
"""The folders of the runs that `-m` has made in this process."""


def train_main(words: list[str]) -> int:
    """Composes, then trains; returns the exit status. Raises FulguriteError."""
    # before torch allocates: it lowers the peak on a CPU (docs/memory.md)
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    ranks = settle()
    asked = flags.read(check_typed("train", words, *list_flags("train")))
    set_verbose(asked.verbose)
    if asked.needs_hydra:
        ENDED.clear()
        status = hydra_main(_job, asked.overrides, asked.list_words(), asked.config_dir)
        say(format_multirun(ENDED))
        return status
    words = continue_words(restore_words(asked.overrides), os.environ)
    if (ended := find_finished(words, os.environ)) is not None:
        say(message("{path} has ended before this job was started again; nothing is left to do.", path=ended))
        return 0
    composed = compose(words, asked.config_dir)
    launcher = composed.run.launcher
    if ranks.starter is Starter.command and STARTED_BY in os.environ:
        launcher = LocalLauncher()
    if ranks.starter is Starter.command and (launcher.is_remote or composed.run.world_size > 1):
        return int(build(launcher, _build_request(composed, asked, ranks)))
    return _job(composed)


def _build_request(composed: Composed, asked: flags.Flags, ranks: Ranks) -> LaunchRequest:
    """Returns what the launcher of a run needs to know."""
    run = composed.run

    def check() -> None:
        refuse_impossible(run)
        refuse_unwritable(Path(run.resume.run or run.run_dir or "runs"))
        if run.launcher.is_remote:
            # loads torch, which takes seconds: after all that can be refused without it
            from fulgurite.launcher.remote_pieces import RemotePieces

            RemotePieces(composed).check()

    words = ["train", *asked.list_words(), *(o for o in composed.overrides if read_name(o) != "run_dir")]
    return LaunchRequest(
        tuple(words), run.trainer.devices, run.trainer.num_nodes, run.name, run.run_dir, run.resume.run, ranks,
        uses_gpu=run.trainer.accelerator != "cpu", needs_gpu=run.trainer.accelerator == "cuda", check=check,
    )


def _job(composed: Composed) -> int:
    if composed.multirun:
        refuse_several(composed.run.world_size)
    check_started(composed.run.trainer.devices, composed.run.trainer.num_nodes, settle())
    run = composed.run
    refuse_unwritable(Path(run.resume.run or run.run_dir or "runs"))
    source = build_checked_source(composed)
    # loads torch, which takes seconds: after all that can be refused without it
    from fulgurite.train.experiment import Experiment

    experiment = Experiment(composed, source)
    try:
        experiment.fit()
    finally:
        if composed.multirun and (folder := vars(experiment).get("folder")) is not None:
            ENDED.append(folder)
    return 0


def format_multirun(folders: Sequence[Path]) -> str:
    """Returns a table of the runs that `-m` has made in this process; empty for fewer than two."""
    if len(folders) < 2:
        return ""
    from fulgurite.run.listing import format_runs, summarize_run

    return "\n" + format_runs([summarize_run(folder) for folder in folders])
