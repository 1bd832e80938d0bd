"""From micro-batches to optimizer steps: what every callback that looks at steps shares."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl


class TrainingClock:
    """Seconds of training, apart from the pauses for evaluation, samples and checkpoints."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._mark = clock()
        self._runs = False
        self.trained = 0.0
        self.paused = 0.0

    def go(self) -> None:
        """Training goes on; the time since `hold` was a pause."""
        self.tick()
        self._runs = True

    def hold(self) -> None:
        """A pause begins."""
        self.tick()
        self._runs = False

    def tick(self) -> None:
        """Bring `trained` and `paused` up to now."""
        now = self._clock()
        if self._runs:
            self.trained += now - self._mark
        else:
            self.paused += now - self._mark
        self._mark = now


class OptimizerStepCallback(pl.Callback):  # type: ignore[misc]
    """Calls `on_step` once an optimizer step, after the last of its micro-batches, and brings the stage's pace up to
    now.

    The pace is the stage's (`stage.pace`): a pause begins with an evaluation or a checkpoint and lasts until the next
    micro-batch begins, after all callbacks have run. Lightning calls the hooks of a module after those of the
    callbacks.
    """

    def __init__(self) -> None:
        self._last = 0

    def on_step(self, trainer: pl.Trainer, stage: Any, step: int) -> None:
        """One optimizer step is done; `step` counts from 1."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """A resumed run begins after the steps it has."""
        self._last = trainer.global_step

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Sees whether this micro-batch was the last of a step."""
        # global_step changes only with the last micro-batch of a step.
        if trainer.global_step != self._last:
            self._last = trainer.global_step
            pl_module.pace.tick()
            self.on_step(trainer, pl_module, self._last)
