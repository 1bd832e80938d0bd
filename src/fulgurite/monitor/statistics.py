"""What chance alone can do: standard errors and intervals.

scipy.stats has both (ttest_ind_from_stats, binomtest.proportion_ci); it is not needed to train, and each is one line.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from itertools import pairwise


def compute_error_of_difference(a: Sequence[float], b: Sequence[float]) -> float:
    """The standard error of mean(a) - mean(b), without assuming that they spread alike (Welch)."""
    # Each mean has the variance s² / n, and variances of independent means add up.
    return math.sqrt(sum(statistics.variance(x) / len(x) if len(x) > 1 else 0.0 for x in (a, b)))


def compute_wilson_interval(share: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share seen `count` times (E. B. Wilson, 1927), which holds near 0 and 1 too."""
    if count < 1:
        return 0.0, 1.0
    # The centre is drawn towards one half: an interval about a share of 0 does not shrink to nothing.
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return middle - half, middle + half


def estimate_noise(values: Sequence[float]) -> float:
    """The standard deviation of the noise around a trend, from the differences of neighbours; 0 for fewer than three
    values."""
    # A slow trend hardly changes neighbours; the variance of a difference of two is twice that of one.
    differences = [b - a for a, b in pairwise(values)]
    return statistics.pstdev(differences) / math.sqrt(2) if len(differences) > 1 else 0.0
