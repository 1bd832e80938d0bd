"""Diagnoses a loss or gradient norm that is not finite."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from fulgurite.language.message import UserMessage, message

SHOWN = 8
"""Maximum number of examples that are named."""


def describe_nonfinite(
    module: nn.Module, what: UserMessage, step: int, rate: float, rows: Sequence[str], precision: str
) -> UserMessage:
    """Returns the error for a `what` that is not finite in a step, counted from 1, on the examples `rows`."""
    shown = ", ".join(rows[:SHOWN]) + (f", ... (+{len(rows) - SHOWN})" if len(rows) > SHOWN else "")
    return message(
        "Step {step}: the {what} is not finite. First bad tensor: {tensor}. Learning rate {rate:g}. Examples: {shown}. "
        "The step was not made, and the last checkpoint is complete. Likely causes: too high a learning rate (lower "
        "optim.lr), overflow of {precision} (precision=fp32), or a damaged model file.",
        step=step, what=what, tensor=find_nonfinite(module), rate=rate, shown=shown, precision=precision,
    )


def find_nonfinite(module: nn.Module) -> UserMessage:
    """Describes the first weight, or else the first gradient, with a number that is not finite."""
    for name, parameter in module.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            return message("weight {name} ({dtype})", name=name, dtype=parameter.dtype)
    for name, parameter in module.named_parameters():
        if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all()):
            return message("gradient of {name} ({dtype})", name=name, dtype=parameter.grad.dtype)
    return message("the loss itself")
