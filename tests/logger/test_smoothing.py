"""The smoothed loss."""

from __future__ import annotations

import pytest

from fulgurite.logger.smoothing import RunningMean


def test_the_mean_begins_at_the_first_loss() -> None:
    mean = RunningMean()
    assert mean.add(4.0) == pytest.approx(4.0)
    # 0.9 * 0.1 * 4 + 0.1 * 2, over the weights' sum 0.19
    assert mean.add(2.0) == pytest.approx((0.09 * 4 + 0.1 * 2) / 0.19)


def test_many_values_at_once_give_what_single_ones_give() -> None:
    values = [3.0, 2.5, 2.75, 2.0, 1.5]
    one, many = RunningMean(), RunningMean()
    assert many.extend(values[:2]) + many.extend(values[2:]) == [one.add(x) for x in values]
