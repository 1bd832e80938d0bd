"""Diagnoses a loss or gradient norm that is not finite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fulgurite.errors import TrainingFailed
from fulgurite.language.message import UserMessage, message
from fulgurite.optim.param_groups import get_base_rate

SHOWN = 8
"""Maximum number of examples that are named."""


def refuse_nonfinite(stage: Any, what: UserMessage, found: Tensor, window: Sequence[dict[str, Any]]) -> None:
    """Raises TrainingFailed if the norm of a step is not finite, or one of the losses of its micro-batches `window`.

    Called once a step, before it is taken: each look waits for the device. Of losses the first bad one is named.
    """
    if stage.is_finite_everywhere(found):
        return
    bad, by_batch = (~torch.isfinite(found)).flatten().tolist(), found.dim() > 0
    if not by_batch and not stage.is_sharded:
        # A process whose own loss was bad has left and reports it; the others notice that here.
        stage.all_reduce(torch.zeros((), device=stage.device))
    read = window[: bad.index(True) + 1] if by_batch and any(bad) else window
    rows = stage.places(stage.gather_rows([number for batch in read for number in batch["rows"]], any(bad)))
    rate, step = get_base_rate(stage.trainer.optimizers[0]), stage.trainer.global_step + 1
    raise TrainingFailed(describe_nonfinite(stage, what, step, rate, rows, stage.dtypes.option, not by_batch))


def describe_nonfinite(
    module: nn.Module, what: UserMessage, step: int, rate: float, rows: Sequence[str], precision: str,
    with_gradients: bool = True,
) -> UserMessage:
    """Returns the error for a `what` that is not finite in a step, counted from 1, on the examples `rows`.

    The gradients of a loss that is not finite are no cause of it: without them a weight is named, or the loss.
    """
    shown = ", ".join(rows[:SHOWN]) + (f", ... (+{len(rows) - SHOWN})" if len(rows) > SHOWN else "")
    return message(
        "Step {step}: the {what} is not finite. First bad tensor: {tensor}. Learning rate {rate:g}. Examples: {shown}. "
        "The step was not made, and the last checkpoint is complete. Likely causes: too high a learning rate (lower "
        "optim.lr), overflow of {precision} (precision=fp32), or a damaged model file.",
        step=step, what=what, tensor=find_nonfinite(module, with_gradients), rate=rate, shown=shown,
        precision=precision,
    )


def find_nonfinite(module: nn.Module, with_gradients: bool = True) -> UserMessage:
    """Describes the first weight, or else the first gradient, with a number that is not finite."""
    for name, parameter in module.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            return message("weight {name} ({dtype})", name=name, dtype=parameter.dtype)
    for name, parameter in module.named_parameters() if with_gradients else ():
        if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all()):
            return message("gradient of {name} ({dtype})", name=name, dtype=parameter.grad.dtype)
    return message("the loss itself")
