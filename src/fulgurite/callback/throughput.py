"""How well a GPU is used: its memory, and the share of its peak that training is (MFU)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
import torch

from fulgurite.callback.config import ThroughputOption
from fulgurite.callback.context import CallbackContext
from fulgurite.callback.optimizer_step import OptimizerStepCallback
from fulgurite.model.flops import count_model_step, find_peak


def build(config: ThroughputOption, context: CallbackContext) -> Throughput:
    """Builds the callback for the run's model and the lengths of its rows."""
    model: Any = context.module.model
    operations = count_model_step(model, compute_mean_length(context.rows.lengths.tolist()))
    return Throughput(operations, context.run.trainer.log_every, context.total_steps, config.peak_tflops)


class Throughput(OptimizerStepCallback):
    """Adds `train/gpu_memory_gib` and `train/mfu` to the steps that are logged; on a CPU, `train/mfu` only if the peak
    is given. `operations` are those of a token, None if they are not known.

    It comes before what writes the row of a step.
    """

    def __init__(self, operations: float | None, log_every: int, total_steps: int, peak_tflops: float | None) -> None:
        super().__init__()
        self._operations, self._every, self._total = operations, log_every, total_steps
        self._peak = peak_tflops * 1e12 if peak_tflops is not None else None
        self._tokens, self._since = 0, 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Looks the device up."""
        super().on_train_start(trainer, pl_module)
        device = pl_module.device
        if self._peak is None and device.type == "cuda":
            self._peak = find_peak(torch.cuda.get_device_name(device))

    def on_step(self, trainer: pl.Trainer, stage: Any, step: int) -> None:
        """Adds the numbers since the last logged step."""
        self._tokens += stage.step_tokens_read
        if step % self._every and step != self._total:
            return
        seconds = stage.pace.trained - self._since
        if self._operations is not None and self._peak is not None and seconds > 0:
            stage.step_record["train/mfu"] = self._operations * self._tokens / seconds / self._peak
        if stage.device.type == "cuda":
            stage.step_record["train/gpu_memory_gib"] = torch.cuda.max_memory_allocated(stage.device) / 2**30
        self._tokens, self._since = 0, stage.pace.trained


def compute_mean_length(lengths: Sequence[int]) -> float:
    """Returns the length of the row that a token is in, on average: attention costs each token its row's length."""
    # A row counts once for each of its tokens, so the mean is weighted by length.
    return sum(length * length for length in lengths) / max(sum(lengths), 1)
