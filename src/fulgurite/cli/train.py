"""`fulgurite train`: overrides through Hydra, one process or several, resumed or fresh."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from fulgurite.cli import flags
from fulgurite.cli.parser import list_flags
from fulgurite.cli.typed import check_typed
from fulgurite.config.compose import compose
from fulgurite.config.hydra_app import hydra_main
from fulgurite.config.overrides import quote_verbatim
from fulgurite.config.provenance import Composed
from fulgurite.language.message import message
from fulgurite.plan.preflight import build_checked_source, refuse_impossible
from fulgurite.run.stored_words import restore_words
from fulgurite.strategy.config import available
from fulgurite.strategy.ranks import Ranks, Starter, check_nodes, check_started, refuse_several, settle
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
    composed = compose(restore_words(asked.overrides), asked.config_dir)
    if composed.run.world_size > 1 and ranks.starter is Starter.command:
        return _launched(composed, asked, ranks)
    return _job(composed)


def _launched(composed: Composed, asked: flags.Flags, ranks: Ranks) -> int:
    """Returns the exit status of this machine's share of the processes of a run, all in one run folder."""
    from fulgurite.run.folder import choose_run_folder
    from fulgurite.train.launcher import launch

    run = composed.run
    devices, nodes = run.trainer.devices, run.trainer.num_nodes
    check_nodes(devices, nodes, ranks, os.environ)
    refuse_impossible(run)
    if devices > (cores := available()):
        say(
            message(
                "warning: trainer.devices={devices} processes share {cores} CPU cores; fewer processes are faster.",
                devices=devices, cores=cores,
            )
        )
    words = ["train", *asked.list_words(), *(o for o in composed.overrides if not o.startswith("run_dir="))]
    fresh = run.run_dir is None and run.resume.run is None
    if fresh and ranks.node_rank > 0:  # the first machine names the folder
        return launch(words, devices, None, ranks.node_rank, nodes)
    folder = choose_run_folder(run.name, run.run_dir, run.resume.run)
    status = launch([*words, f"run_dir={quote_verbatim(folder)}"], devices, folder, ranks.node_rank, nodes)
    if status and fresh:
        _forget(folder)
    return status


def _forget(folder: Path) -> None:
    """Removes the folder of a run that never began, and those that were made for it."""
    with contextlib.suppress(OSError):  # one of them is not empty
        for place in (folder, folder.parent, folder.parent.parent):
            place.rmdir()


def _job(composed: Composed) -> int:
    if composed.multirun:
        refuse_several(composed.run.world_size)
    check_started(composed.run.trainer.devices, composed.run.trainer.num_nodes, settle())
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
