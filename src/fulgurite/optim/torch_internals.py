"""What this package uses of torch's optimizers beyond their documented functions. Tested with torch 2.13; a test
fails if it is gone."""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer

UNSCALES = "_step_supports_amp_scaling"
"""The attribute by which a fused optimizer declares that it divides by the loss scale inside its step."""


def unscale_outside(optimizer: Optimizer) -> Optimizer:
    """Lets the loss scaler divide a fused optimizer's gradients before its step: Lightning refuses to clip them
    otherwise."""
    setattr(optimizer, UNSCALES, False)
    return optimizer


def set_last_lrs(scheduler: Any, rates: list[float]) -> None:
    """Sets what `scheduler.get_last_lr()` returns."""
    scheduler._last_lr = rates
