"""A trial of a search: reports each evaluation to the study, which may end the run."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl

from fulgurite.errors import Pruned, TrainingFailed


class OptunaPruning(pl.Callback):  # type: ignore[misc]
    """Reports the metric with the percent of the run that is done.

    Raises Pruned with the reason, TrainingFailed if it is no number.
    """

    def __init__(self, report: Callable[[int, float], str | None], metric: str, total_steps: int) -> None:
        self._report, self._metric, self._total = report, metric, total_steps

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Reports; a stage that does not have the metric reports nothing, and the search prints that at the end."""
        found = trainer.callback_metrics.get(self._metric)
        if found is None or trainer.sanity_checking or not trainer.is_global_zero:
            return
        value = float(found)
        if not math.isfinite(value):
            raise TrainingFailed(
                "{metric} is {value} at step {step}: the learning rate is too high, or a model file is broken.",
                metric=self._metric, value=value, step=trainer.global_step,
            )
        why = self._report(round(100 * trainer.global_step / self._total), value)
        if why is not None:
            raise Pruned(
                "Ended by the search at step {step} of {total}: {why}.",
                step=trainer.global_step, total=self._total, why=why,
            )
