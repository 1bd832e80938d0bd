"""Standard errors and intervals, against arithmetic by hand and scipy."""

from __future__ import annotations

import math

import pytest

from fulgurite.monitor.statistics import compute_error_of_difference, compute_wilson_interval, estimate_noise


def test_wilson_interval_by_hand() -> None:
    # p = 0.5, n = 100, z = 1.96: the middle stays, half = 1.96/(1 + 0.038416) · sqrt(0.0025 + 0.00009604) = 0.09617
    assert compute_wilson_interval(0.5, 100) == pytest.approx((0.40383, 0.59617), abs=1e-5)
    assert compute_wilson_interval(1.0, 10)[0] == pytest.approx(10 / (10 + 1.96**2))
    assert compute_wilson_interval(0.5, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("hits", "count"), [(0, 5), (4, 5), (37, 120)])
def test_wilson_interval_is_that_of_scipy(hits: int, count: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    interval = stats.binomtest(hits, count).proportion_ci(method="wilson")
    assert compute_wilson_interval(hits / count, count) == pytest.approx((interval.low, interval.high), abs=1e-5)


def test_error_of_a_difference_by_hand() -> None:
    # variances 1 and 4 (of 1, 2, 3 and of 2, 4, 6), three of each
    assert compute_error_of_difference([1, 2, 3], [2, 4, 6]) == pytest.approx(math.sqrt(1 / 3 + 4 / 3))
    # one value has no variance
    assert compute_error_of_difference([1, 2, 3], [5]) == pytest.approx(math.sqrt(1 / 3))


def test_noise_is_measured_around_a_trend() -> None:
    assert estimate_noise([3, 2, 1, 0]) == 0
    assert estimate_noise([1, 5]) == 0
    # differences 2, -2, 2, -2 have a deviation of 2, and a difference has twice the variance of a value
    assert estimate_noise([0, 2, 0, 2, 0]) == pytest.approx(2 / math.sqrt(2))
