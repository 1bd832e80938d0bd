"""The factors of reduce_lr_on_plateau as pure numbers, for the plot and the guide. torch's ReduceLROnPlateau trains.

A test compares the two. One deviation: torch ignores a cut that moves the rate by less than 1e-8.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

THRESHOLD = 1e-4
"""torch's default: a loss is better only if it is at least this share below the best one."""


def compute_plateau_factors(losses: Iterable[float], *, patience: int, factor: float) -> list[float]:
    """Returns the factor on the peak rate after each evaluation: cut at the (`patience` + 1)th in a row without a
    lower loss."""
    best, waited, now = math.inf, 0, 1.0
    factors = []
    for loss in losses:
        # Relative, as torch's threshold_mode="rel"; losses are positive.
        if loss < best * (1.0 - THRESHOLD):
            best, waited = loss, 0
        else:
            waited += 1
        if waited > patience:
            # The count begins anew; the best loss stays, so a new one has to beat it.
            now, waited = now * factor, 0
        factors.append(now)
    return factors
