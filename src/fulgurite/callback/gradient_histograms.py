"""Histograms of the gradients of an optimizer step, for trackers that draw them.

Not `wandb.watch`: its hooks see the gradient of a micro-batch, not of the step, and run on the training thread, where
an error of the tracker would end the run.
"""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from fulgurite.callback.config import GradientHistogramsOption
from fulgurite.callback.context import CallbackContext
from fulgurite.logger.guard import Histogram

BINS = 64
"""As many as wandb draws by default."""


def build(config: GradientHistogramsOption, context: CallbackContext) -> GradientHistograms:
    """Builds the callback."""
    return GradientHistograms(config.every)


class GradientHistograms(pl.Callback):  # type: ignore[misc]
    """Sends `gradients/NAME` of each trained tensor at step 1 and every `every` steps, before clipping."""

    def __init__(self, every: int) -> None:
        self._every = every
        self._names: dict[int, str] = {}

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: Any, optimizer: Any) -> None:
        """Sends the histograms of the step that is about to be done."""
        step = trainer.global_step + 1
        trackers = [tracker for tracker in trainer.loggers if hasattr(tracker, "log_histograms")]
        if not trackers or (step % self._every and step != 1):
            return
        found = {
            f"gradients/{name}": compute_histogram(parameter.grad)
            for name, parameter in pl_module.named_parameters() if parameter.grad is not None
        }
        for tracker in trackers:
            tracker.log_histograms(found, step)


def compute_histogram(values_N: Tensor, bins: int = BINS) -> Histogram:
    """Returns the counts and the edges of `bins` equal bins between the smallest and the largest finite value; values
    that are not finite are not counted."""
    values_N = values_N.detach().float().flatten()
    values_N = values_N[values_N.isfinite()]
    if not values_N.numel():
        return [0.0] * bins, torch.linspace(-1, 1, bins + 1).tolist()
    low, high = (float(end) for end in values_N.aminmax())
    if low == high:  # a bin needs a width
        low, high = low - 0.5, high + 0.5
    return torch.histc(values_N, bins, low, high).tolist(), torch.linspace(low, high, bins + 1).tolist()
