"""Sets the hyperparameters of a resumed run: those of its config, which `resume.allow` may have changed.

torch stores learning rate, weight decay and other hyperparameters in the optimizer's state, so restoring the state
would bring the old ones back. If nothing was changed, every number stays the same bit for bit.
"""

from __future__ import annotations

import copy
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from fulgurite.optim.torch_internals import set_last_lrs

COUNTERS = frozenset((
    "params", "lr", "taken", "step", "roundings", "k", "train_mode", "weight_sum", "lr_max", "scheduled_lr",
))
"""Entries of a parameter group that training changes; `lr` follows from the schedule."""
PLATEAU = ("factor", "patience", "threshold", "threshold_mode", "mode", "cooldown", "eps", "min_lrs")


def copy_hyperparameters(optimizer: Optimizer) -> list[dict[str, Any]]:
    """Copies each group's hyperparameters, with its peak learning rate as `initial_lr`."""
    for group in optimizer.param_groups:
        # LambdaLR adds it as well, but a plateau's scheduler does not.
        group.setdefault("initial_lr", group["lr"])
    return [
        {name: copy.copy(value) for name, value in group.items() if name not in COUNTERS}
        for group in optimizer.param_groups
    ]


def copy_plateau_settings(scheduler: Any) -> dict[str, Any]:
    """Returns the settings of a plateau scheduler that come from the config; nothing for another scheduler."""
    return {name: getattr(scheduler, name) for name in PLATEAU} if isinstance(scheduler, ReduceLROnPlateau) else {}


def restore_hyperparameters(
    optimizer: Optimizer, scheduler: Any, groups: list[dict[str, Any]], plateau: dict[str, Any]
) -> None:
    """Puts the hyperparameters that were copied when the optimizer was built into it and its scheduler, after both were
    restored."""
    for group, made in zip(optimizer.param_groups, groups, strict=True):
        peak, before = made["initial_lr"], group.get("initial_lr")
        group.update(copy.deepcopy(made))
        if isinstance(scheduler, ReduceLROnPlateau) and before:
            group["lr"] *= peak / before  # keeps the cuts so far
    for name, value in plateau.items():
        setattr(scheduler, name, value)
    if isinstance(scheduler, LambdaLR):
        # LambdaLR multiplies base_lrs at each step, and restored its own from the checkpoint.
        scheduler.base_lrs = [made["initial_lr"] for made in groups]
        for group, peak, factor in zip(optimizer.param_groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True):
            # The rate of the schedule at the checkpoint's step, from the peak of this run's config.
            group["lr"] = peak * factor(scheduler.last_epoch)
        set_last_lrs(scheduler, [group["lr"] for group in optimizer.param_groups])
