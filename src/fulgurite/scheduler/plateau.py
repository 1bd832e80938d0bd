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
    """Raises ConfigError if the schedule needs a validation loss and the run has none. Called before the model
    loads."""
    if config.monitors and not has_validation:
        raise ConfigError(
            "scheduler={scheduler} follows the validation loss, but data.val_fraction=0 and there is no "
            "data.val_path: set data.val_fraction=0.05, or use scheduler=cosine.",
            scheduler=config.name,
        )


def build(config: ReduceLrOnPlateau, optimizer: Optimizer) -> ReduceLROnPlateau:
    """Builds torch's scheduler on `optimizer`; call its `step(validation_loss)` once per evaluation."""
    from torch.optim.lr_scheduler import ReduceLROnPlateau

    return ReduceLROnPlateau(
        optimizer, mode="min", factor=config.factor, patience=config.patience, threshold=THRESHOLD, threshold_mode="rel"
    )
