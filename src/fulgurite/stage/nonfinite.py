"""The diagnosis of a loss or gradient norm that is not finite."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

SHOWN = 8
"""At most so many examples are named."""


def describe_nonfinite(
    module: nn.Module, what: str, step: int, rate: float, rows: Sequence[str], precision: str
) -> str:
    """The sentences of the error for a `what` that is not finite in a step, counted from 1, on the examples `rows`."""
    shown = ", ".join(rows[:SHOWN]) + (f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else "")
    return (
        f"Step {step}: the {what} is not finite. First bad tensor: {find_nonfinite(module)}. Rate {rate:g}. "
        f"Examples: {shown}. The step was not taken, and the last checkpoint is whole. Likely causes: a rate too high "
        f"(lower optim.lr), {precision} overflowing (precision=fp32), or a broken model file."
    )


def find_nonfinite(module: nn.Module) -> str:
    """The first weight, or else the first gradient, with a number that is not finite, in words."""
    for name, parameter in module.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            return f"weight {name} ({parameter.dtype})"
    for name, parameter in module.named_parameters():
        if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all()):
            return f"gradient of {name} ({parameter.grad.dtype})"
    return "the loss itself"
