"""`fulgurite train` from its first word to its last: folder, status, the loop with its answer to a lack of
memory, the closing words."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fulgurite.config.resolve import halve
from fulgurite.errors import Interrupted, is_shortage
from fulgurite.files.atomic import remove_drafts, write_output
from fulgurite.monitor.outcome import RunEnding, find_ending
from fulgurite.plan.verdict import write
from fulgurite.run.folder import write_run
from fulgurite.run.restarted import JOB
from fulgurite.run.status import track_status
from fulgurite.strategy.slurm_job import find_job, requeue_job
from fulgurite.sweep.study import begin
from fulgurite.text.console import is_verbose, rank, say
from fulgurite.train import lightning
from fulgurite.train.lightning import clean_process_group
from fulgurite.train.messages import format_closing, format_opening
from fulgurite.train.oom import KNOB, Shortage, build_failure, catch_shortage, describe_halving, explain_whole
from fulgurite.train.pieces import Pieces


def train(pieces: Pieces) -> None:
    """Trains the run into its folder. Raises RequestError, TrainingFailed, Interrupted."""
    run, ranks = pieces.composed.run, pieces.ranks
    begin(run.sweep, Path(run.run_dir or run.resume.run or ".").parent, resumed=run.resume.run is not None)
    troubles, folder = pieces.troubles, pieces.folder
    say(pieces.source.checked.describe(pieces.source) if pieces.source.checked and is_verbose() else "")
    # Left from the inside out: the status is final before the job goes back into the queue.
    with requeue_after(pieces), clean_process_group(), enter_in_first(_track(pieces, folder)) as found:
        if ranks.rank == 0:
            remove_drafts(folder)  # of a process that was killed while it wrote
            write(troubles, folder / "troubles.json")
        how = fit_in_memory(pieces)
        found |= {"state": how.state, **({"warnings": list(how.warnings)} if how.warnings else {})}
    if rank() == 0:
        say(format_closing(pieces, how))


def _track(pieces: Pieces, folder: Path) -> contextlib.AbstractContextManager[dict[str, Any]]:
    job = find_job(os.environ)
    facts = {} if job is None else {JOB: job.number}
    return track_status(folder, name=pieces.composed.run.name, total_steps=pieces.gathered.facts.total_steps, **facts)


@contextlib.contextmanager
def requeue_after(pieces: Pieces) -> Iterator[None]:
    """Puts the Slurm job back into the queue if SIGUSR1 ended the run inside the block, when all of it is saved.

    A multirun is left out: its job would begin again with the first of its runs.
    """
    try:
        yield
    except Interrupted:
        callbacks, run = vars(pieces).get("callbacks"), pieces.composed.run
        is_asked = callbacks is not None and callbacks.stop.asks_requeue and getattr(run.launcher, "requeue", False)
        job = find_job(os.environ)
        if is_asked and rank() == 0 and job is not None and not pieces.composed.multirun:
            say(requeue_job(job))
        raise


def fit_in_memory(pieces: Pieces) -> RunEnding:
    """Trains to the end. Out of memory halves the micro-batch once; TrainingFailed the second time,
    and if the weights do not fit.

    Trackers stay open over both parts: a run is one run to them, with each row once.
    """
    trackers: list[Any] = []
    try:
        # Twice at most: a second shortage of memory is an error.
        for again in (False, True):
            with catch_shortage(pieces.gathered.seen):
                prepare(pieces)
            trackers = pieces.trackers
            for tracker in trackers:
                tracker.hold()
            short = fit_once(pieces)
            if short is None:
                watch = pieces.callbacks.watch
                return find_ending(watch.seen.history, watch.voice.rows) if watch is not None else RunEnding()
            run = pieces.composed.run
            if why := explain_whole(run.stage, run.trainer.micro_batch_size, run.private, run.world_size, again):
                raise build_failure(run.trainer, run.data.max_length, run.method, run.optim, short, why)
            pieces.release()
            gc.collect()  # modules and trainer point at each other
            pieces.composed = halve(pieces.composed, short.step)
            say(describe_halving(pieces.composed.provenance[KNOB]))
            write_run(pieces.folder, pieces.composed)
            for tracker in trackers:
                tracker.go_back()
                tracker.correct(
                    KNOB, pieces.composed.run.trainer.micro_batch_size, pieces.composed.provenance[KNOB].because.english
                )
    except BaseException:
        for tracker in trackers:
            tracker.let_go()
        raise
    raise AssertionError("the second shortage is raised")


def prepare_files(pieces: Pieces) -> None:
    """Builds the stage and writes what the folder must have before the first step."""
    folder, report = pieces.folder, pieces.gathered.report
    if rank() == 0:
        write_output(folder / "data_report.json", report.text())
        say(report.describe())
    if pieces.checkpoint is None and rank() == 0:
        write_run(folder, pieces.composed)  # for a model that fails to load; once more below, after a trial step
    stage = pieces.module
    assert pieces.data.stage is stage
    if rank() == 0:
        write_run(folder, pieces.composed)
        say(format_opening(pieces))


def prepare(pieces: Pieces) -> None:
    """Builds everything up to the Trainer."""
    prepare_files(pieces)
    # Computes the property, and with it the callbacks and trackers.
    assert pieces.trainer is not None


def fit_once(pieces: Pieces) -> Shortage | None:
    """Lightning's loop; if memory ran out, what is known of it. The error is let go,
    and with it what its frames hold."""
    stage, trainer = pieces.module, pieces.trainer
    try:
        with pieces.callbacks.stop.listening():
            lightning.fit(trainer, stage, pieces.data, pieces.checkpoint)
    except (RuntimeError, MemoryError) as error:
        if not is_shortage(error):
            raise
        return Shortage.of(stage, trainer.global_step + 1)
    finally:
        stage.close()
    return None


@contextlib.contextmanager
def enter_in_first(context: contextlib.AbstractContextManager[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The context in the first process, an empty mapping in the others."""
    if rank() != 0:
        yield {}
        return
    with context as given:
        yield given
