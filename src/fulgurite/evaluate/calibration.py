"""Whether a model that prefers an answer with 80 % is right in 80 % of the cases: the expected calibration error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

BINS = 10
"""Bins of equal width between 0.5 and 1, the possible confidences in one of two labels."""


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """The examples whose confidence is from `low` to `high`; the means are those of its examples."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


def compute_confidence(log_odds: float) -> float:
    """Returns the probability of the label that the model prefers, 0.5 to 1: the logistic function of the absolute
    log-odds, as in Bradley and Terry's model of a pair."""
    # Beyond 700 the confidence is 1 in float64 anyway.
    return 1.0 / (1.0 + math.exp(-min(abs(log_odds), 700.0)))


def build_bins(log_odds: Sequence[float], bins: int = BINS) -> list[CalibrationBin]:
    """Returns the bins that have examples; each number is the log-odds of the right label.

    An example is right above 0, wrong below, and half right at 0, where the model has no preference.
    """
    inside: list[list[float]] = [[] for _ in range(bins)]
    for value in log_odds:
        place = int((compute_confidence(value) - 0.5) * 2 * bins)
        # A confidence of exactly 1 belongs to the last bin.
        inside[min(place, bins - 1)].append(value)
    found = []
    for number, values in enumerate(inside):
        if not values:
            continue
        right = math.fsum(1.0 if value > 0 else 0.5 if value == 0 else 0.0 for value in values)
        sure = math.fsum(map(compute_confidence, values))
        found.append(CalibrationBin(
            0.5 + number / (2 * bins), 0.5 + (number + 1) / (2 * bins), len(values), sure / len(values),
            right / len(values),
        ))
    return found


def compute_calibration_error(bins: Sequence[CalibrationBin]) -> float:
    """Returns the expected calibration error: the mean over examples of |accuracy - confidence| of their bins (Guo et
    al. 2017, https://arxiv.org/abs/1706.04599, equation 3)."""
    count = sum(one.count for one in bins)
    return math.fsum(one.count * abs(one.accuracy - one.confidence) for one in bins) / max(count, 1)
