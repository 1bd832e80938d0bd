"""How often one model is better than another, with a bootstrap interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
LEVEL = 0.95
"""The interval contains this share of the resampled win rates."""


@dataclass(frozen=True, slots=True)
class WinRate:
    """The share of questions that a model wins, a tie counting half, and the ends of its interval."""

    rate: float
    low: float
    high: float
    wins: int
    ties: int
    losses: int


def compute_win_rate(outcomes: Sequence[float], seed: int = 0) -> WinRate:
    """Returns the win rate of outcomes 1 (won), 0.5 (tie) and 0 (lost), at least one, with its percentile bootstrap
    interval: the questions are drawn again with replacement (Efron and Tibshirani 1993, chapter 13).

    scipy.stats.bootstrap(method="percentile") gives the same; scipy is no requirement of Fulgurite.
    """
    values = np.asarray(outcomes, dtype=np.float64)
    # [RESAMPLES, questions]: each row is a set of questions drawn again, and its mean a win rate.
    drawn = np.random.default_rng(seed).choice(values, (RESAMPLES, len(values)))
    low, high = np.quantile(drawn.mean(axis=1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    wins, losses = int((values == 1.0).sum()), int((values == 0.0).sum())
    return WinRate(float(values.mean()), float(low), float(high), wins, len(values) - wins - losses, losses)


def flatten(found: WinRate, suffix: str = "") -> dict[str, float]:
    """Returns the rate and the ends of its interval as numbers of a result, whose names end in `suffix`."""
    return {
        f"win_rate{suffix}": found.rate, f"win_rate_low{suffix}": found.low, f"win_rate_high{suffix}": found.high,
    }
