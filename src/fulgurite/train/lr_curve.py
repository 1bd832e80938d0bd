"""The arithmetic of a range test: the rates, the smoothed loss, the rates that the curve
proposes. Plain numbers, no torch.

Smith, Cyclical Learning Rates, https://arxiv.org/abs/1506.01186: the best rates are where the loss
falls, below where it rises.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fulgurite.language.message import UserMessage, message

WIDTH = 0.25
"""Decades: the width of the smoothing. It looks to both sides, so that the curve does not lag behind the
rate as a running mean does."""
RISEN = 1.3
"""A smoothed loss of so many times the first has diverged. fastai waits for 4 times,
which a model of language rarely reaches."""


def compute_rate(step: int, low: float, high: float, steps: int) -> float:
    """The rate of optimizer step `step`, counted from 0: geometrically from `low` to `high`."""
    return float(low * (high / low) ** (step / max(steps - 1, 1)))


def smooth(rates: Sequence[float], losses: Sequence[float]) -> list[float]:
    """The loss at each rate as a mean over its neighbours, weighted by a Gaussian in the logarithm of the rate."""
    places = [math.log10(r) for r in rates]
    out = []
    for here in places:
        weights = [math.exp(-0.5 * ((x - here) / WIDTH) ** 2) for x in places]
        out.append(sum(w * y for w, y in zip(weights, losses, strict=True)) / sum(weights))
    return out


@dataclass(frozen=True, slots=True)
class Proposal:
    """The proposal of a curve. `lowest` is the rate of the lowest loss; `rise` is the rate at which it passed its start
    again, or went up for good."""

    rate: float
    steepest: float
    lowest: float
    rise: float | None
    reason: UserMessage


def propose(rates: Sequence[float], smoothed: Sequence[float]) -> Proposal | None:
    """Returns the rate of the steepest fall per decade, at most a tenth of the rate at which the
    loss rises; None if it never falls.

    The tenth is fastai's rule (its lr_find, "minimum / 10"); the steepest point is Smith's and Lightning's.
    """
    bottom = min(range(len(rates)), key=smoothed.__getitem__)
    start = smoothed[0]
    # A fall of less than 1 % counts as none.
    if bottom == 0 or start - smoothed[bottom] < 0.01 * abs(start):
        return None
    places = [math.log10(r) for r in rates]
    # Central differences over the logarithm of the rate, up to the lowest loss; the most negative is the steepest fall.
    falls = {
        i: (smoothed[i + 1] - smoothed[i - 1]) / (places[i + 1] - places[i - 1])
        for i in range(1, min(bottom + 1, len(rates) - 1))
    }
    steepest = rates[min(falls, key=falls.__getitem__)] if falls else rates[bottom]
    # Only after the lowest loss: before it, the curve may have a bump above its start.
    rise = next((rates[i] for i in range(bottom, len(rates)) if smoothed[i] > start), None)
    if rise is not None and rise / 10 < steepest:
        return Proposal(
            rise / 10, steepest, rates[bottom], rise,
            message("a tenth of {rise:.2g}, at which the loss is above its start again", rise=rise),
        )
    fastest = message("the loss falls fastest per decade of the rate")
    return Proposal(steepest, steepest, rates[bottom], rise, fastest)


def compare_rates(found: float, derived: float) -> UserMessage:
    """Returns how a proposal compares with the rate that the run would take."""
    times = found / derived
    if 1 / 3 <= times <= 3:
        return message(
            "optim.lr={derived:.2g}, which the run takes, agrees with it: within a factor of 3 the curve shows no "
            "difference", derived=derived,
        )
    if times > 1:
        return message(
            "that is {times:.2g} times the optim.lr={derived:.2g} which the run takes; try both, or search: -m "
            "optim.lr={derived:.2g},{found:.2g}", times=times, derived=derived, found=found,
        )
    return message(
        "that is a {times:.2g}th of the optim.lr={derived:.2g} which the run takes; try both, or search: -m "
        "optim.lr={derived:.2g},{found:.2g}", times=1 / times, derived=derived, found=found,
    )
