"""The expected calibration error of known confidences."""

from __future__ import annotations

import math

import pytest

from fulgurite.evaluate.calibration import BINS, build_bins, compute_calibration_error, compute_confidence

SURE = math.log(4)
"""Log-odds of a probability of 0.8."""


def test_confidence_is_the_probability_of_the_preferred_label() -> None:
    assert compute_confidence(SURE) == pytest.approx(0.8)
    assert compute_confidence(-SURE) == pytest.approx(0.8)
    assert compute_confidence(0.0) == 0.5
    assert compute_confidence(1e9) == 1.0


def test_error_of_two_bins_by_hand() -> None:
    """Four examples at 0.8, three of them right; two at 0.6, both wrong: (4 * 0.05 + 2 * 0.6) / 6."""
    unsure = math.log(1.5)
    bins = build_bins([SURE + 1e-9, SURE + 1e-9, SURE + 1e-9, -SURE - 1e-9, -unsure - 1e-9, -unsure - 1e-9])
    assert [(one.low, one.high, one.count) for one in bins] == [(0.6, 0.65, 2), (0.8, 0.85, 4)]
    assert [one.accuracy for one in bins] == [0.0, 0.75]
    assert compute_calibration_error(bins) == pytest.approx((4 * 0.05 + 2 * 0.6) / 6)


def test_perfect_calibration_is_zero() -> None:
    assert compute_calibration_error(build_bins([SURE] * 4 + [-SURE])) == pytest.approx(0.0, abs=1e-12)


def test_no_preference_is_half_right() -> None:
    (only,) = build_bins([0.0, 0.0])
    assert (only.confidence, only.accuracy) == (0.5, 0.5)


def test_certainty_is_in_the_last_bin() -> None:
    (only,) = build_bins([1e6])
    assert (only.high, only.count) == (1.0, 1)
    assert only.low == pytest.approx(1 - 0.5 / BINS)


def test_nothing_has_no_bins() -> None:
    assert build_bins([]) == []
    assert compute_calibration_error([]) == 0.0
