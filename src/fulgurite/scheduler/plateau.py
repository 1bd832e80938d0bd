"""reduce_lr_on_plateau: cuts the rate when the validation loss stops falling. It counts evaluations, not steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fulgurite.errors import ConfigError
from fulgurite.scheduler.plateau_curve import THRESHOLD

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import ReduceLROnPlateau

    from fulgurite.scheduler.config import ReduceLrOnPlateau, Scheduler

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
