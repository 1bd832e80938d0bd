"""reduce_lr_on_plateau: cuts the rate when the validation loss stops falling. It counts evaluations, not steps.

torch's own ReduceLROnPlateau trains; `course` retells it for the plot, and a test holds the two together. One deviation
there: torch ignores a cut that moves the rate by less than 1e-8. torch is imported only where the real one is built.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from fulgurite.errors import ConfigError

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import ReduceLROnPlateau

    from fulgurite.scheduler.config import ReduceLrOnPlateau, Scheduler

THRESHOLD = 1e-4
"""torch's default: a loss is better only when it lies at least this share below the best one."""


def check(config: Scheduler, has_validation: bool) -> None:
    """Raise ConfigError where the rate follows a validation loss that nobody measures. For before the model loads."""
    if config.monitors and not has_validation:
        raise ConfigError(
            f"scheduler={config.name} follows the validation loss, but data.val_fraction=0 and there is no "
            "data.val_path: set data.val_fraction=0.05, or take scheduler=cosine."
        )


def build(config: ReduceLrOnPlateau, optimizer: Optimizer) -> ReduceLROnPlateau:
    """torch's scheduler on `optimizer`; call its `step(validation_loss)` once an evaluation."""
    from torch.optim.lr_scheduler import ReduceLROnPlateau

    return ReduceLROnPlateau(
        optimizer, mode="min", factor=config.factor, patience=config.patience, threshold=THRESHOLD, threshold_mode="rel"
    )


def course(losses: Iterable[float], *, patience: int, factor: float) -> list[float]:
    """The factor on the peak rate after each evaluation: cut at the (`patience` + 1)th in a row without a gain."""
    best, borne, now, out = math.inf, 0, 1.0, []
    for loss in losses:
        better = loss < best * (1.0 - THRESHOLD)
        best, borne = (loss, 0) if better else (best, borne + 1)
        if borne > patience:
            now, borne = now * factor, 0
        out.append(now)
    return out
