"""The row of each logged step: to metrics.jsonl first, then to the trackers, none of which can end the run."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl

from fulgurite.callback.optimizer_step import OptimizerStepCallback
from fulgurite.logger.metrics_file import MetricsFile


class MetricsLogger(OptimizerStepCallback):
    """Writes a row every `log_every` steps, at the last of `total_steps`, and at each evaluation.

    It must come before the callback that saves checkpoints: a row is written before the checkpoint that knows its
    step, so that a killed and resumed run has each row once.
    """

    def __init__(self, file: MetricsFile, *, log_every: int, total_steps: int) -> None:
        super().__init__()
        self._file, self._every, self._total = file, log_every, total_steps
        self._tokens = 0
        self._since = 0.0

    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        """What the stage logs by itself goes to no tracker: each row goes there from here, once."""
        pl_module.logs_to_trackers = False

    def teardown(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        """Another Trainer may have no such callback."""
        pl_module.logs_to_trackers = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Forgets the rows that a killed run wrote after its last checkpoint."""
        super().on_train_start(trainer, pl_module)
        if trainer.is_global_zero:
            self._file.rewind(trainer.global_step)

    def on_step(self, trainer: pl.Trainer, stage: Any, step: int) -> None:
        """One row, every `log_every` steps."""
        self._tokens += stage.step_tokens_read
        if step % self._every and step != self._total:
            return
        seconds = stage.pace.trained - self._since
        speed = round(self._tokens / seconds, 1) if seconds > 0 else 0.0
        self._tokens, self._since = 0, stage.pace.trained
        self.write_row(trainer, stage, {**stage.step_record, "train/tokens_per_second": speed})

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """One row an evaluation, with every `val/` number."""
        if not trainer.sanity_checking:
            found = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
            self.write_row(trainer, pl_module, found)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Writes what a full disk has kept waiting."""
        self._file.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        """As at the end."""
        self._file.close()

    def write_row(self, trainer: pl.Trainer, stage: Any, numbers: dict[str, float]) -> None:
        """Writes the numbers of the current step, from the first process, to metrics.jsonl and the trackers."""
        if not trainer.is_global_zero:
            return
        step = trainer.global_step
        row = {"epoch": trainer.current_epoch, "tokens": int(stage.tokens_seen), **numbers}
        self._file.write({"step": step, **row})
        for tracker in trainer.loggers:
            tracker.log_metrics(row, step)
