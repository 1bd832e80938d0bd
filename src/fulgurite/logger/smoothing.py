"""The smoothed loss, which the terminal and the web page compute alike."""

from __future__ import annotations

from collections.abc import Iterable


class RunningMean:
    """An exponential mean over about ten steps, without the pull of its start toward 0."""

    def __init__(self, keep: float = 0.9) -> None:
        self._keep, self._sum, self._weight = keep, 0.0, 0.0

    def add(self, x: float) -> float:
        """Returns the mean after `x`."""
        return self.extend((x,))[0]

    def extend(self, values: Iterable[float]) -> list[float]:
        """Returns the mean after each of the values."""
        keep, new, total, weight = self._keep, 1 - self._keep, self._sum, self._weight
        means = []
        for x in values:
            # As Adam's bias correction: the weights of n values sum to 1 - keep^n, by which their sum is divided.
            total = keep * total + new * x
            weight = keep * weight + new
            means.append(total / weight)
        self._sum, self._weight = total, weight
        return means
