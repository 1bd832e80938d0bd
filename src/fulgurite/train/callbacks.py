"""The callbacks of a run: one function builds the list, and each callback that somebody asks for later has a name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lightning.pytorch import Callback

from fulgurite.callback.checkpoint import Checkpoints
from fulgurite.callback.config import CallbackOption
from fulgurite.callback.context import CallbackContext
from fulgurite.callback.early_stopping import BestEarlyStopping
from fulgurite.callback.metrics_logger import MetricsLogger
from fulgurite.callback.optuna_pruning import OptunaPruning
from fulgurite.callback.privacy import PrivacyFile
from fulgurite.callback.run_folder import RunFolderGuard
from fulgurite.callback.samples import Samples
from fulgurite.callback.signals import SignalHandler
from fulgurite.config.schema import build
from fulgurite.logger.metrics_file import MetricsFile
from fulgurite.monitor.callback import MonitorCallback
from fulgurite.monitor.update_ratio import UpdateRatio
from fulgurite.sweep.study import report
from fulgurite.text.console import rank


@dataclass(frozen=True, slots=True)
class RunCallbacks:
    """The callbacks of a run. `every` is the list for the Trainer, in the order in which they must see a step."""

    samples: Samples | None
    watch: MonitorCallback | None
    checkpoints: Checkpoints
    stop: SignalHandler
    early_stopping: BestEarlyStopping | None
    every: list[Callback]

    @property
    def stopped_early(self) -> bool:
        """Whether early stopping ended the run."""
        return self.early_stopping is not None and self.early_stopping.ended


def build_chosen(context: CallbackContext) -> tuple[list[Callback], list[Callback]]:
    """The callbacks of `callback=[...]`: those that see a step before its row is written,
    and those that see it afterwards.

    What writes to trackers alone is built in the first process only, which has them.
    """
    chosen: list[CallbackOption] = sorted(context.run.callback.values(), key=lambda option: option.order)
    before: list[Callback] = []
    for option in chosen:
        if option.needs_tracker and rank() != 0:
            continue
        made: Callback = build(option, context)
        if option.order:
            context.built[option.name] = made
        else:
            before.append(made)
    return before, list(context.built.values())


def build_callbacks(context: CallbackContext, identity: dict[str, Any], own: Sequence[Callback] = ()) -> RunCallbacks:
    """Builds the callbacks of a run. `own` are a person's, which see each step before ours write it.

    A row of metrics is written before the checkpoint that knows its step. Lightning moves the callbacks that save
    checkpoints to the end of the list.
    """
    run, folder, total_steps = context.run, context.folder, context.total_steps
    record = MetricsLogger(
        MetricsFile(folder / "metrics.jsonl"), log_every=run.trainer.log_every, total_steps=total_steps
    )
    checkpoints = Checkpoints(
        folder / "checkpoints", run.trainer.save_every, run.trainer.keep_checkpoints, identity=identity,
        allow=run.resume.allow
    )
    stop = SignalHandler(checkpoints)
    early_stopping = (
        BestEarlyStopping(run.trainer.early_stopping_patience)
        if run.trainer.early_stopping_patience is not None
        else None
    )
    private = [PrivacyFile(folder / "privacy.json")] if run.private else []
    trial = [OptunaPruning(report(run.sweep), run.sweep.metric, total_steps)] if run.sweep.trial is not None else []
    before, after = build_chosen(context)
    every = [
        RunFolderGuard(folder), *own, *before, UpdateRatio(run.trainer.log_every), record, *after, *private,
        *([early_stopping] if early_stopping is not None else []), checkpoints, *trial, stop,
    ]
    samples = next((callback for callback in after if isinstance(callback, Samples)), None)
    watch = next((callback for callback in after if isinstance(callback, MonitorCallback)), None)
    return RunCallbacks(samples, watch, checkpoints, stop, early_stopping, every)
