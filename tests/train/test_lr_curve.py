"""The arithmetic of a learning rate range test: rates, smoothing, proposals, by hand."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from fulgurite.train.lr_curve import compare_rates, compute_rate, propose, smooth

RATES = [compute_rate(step, 1e-6, 1.0, 61) for step in range(61)]  # ten a decade


def test_rates_are_geometric_from_the_lowest_to_the_highest() -> None:
    assert RATES[0] == 1e-6
    assert RATES[-1] == pytest.approx(1.0)
    assert all(b / a == pytest.approx(10**0.1) for a, b in pairwise(RATES))


def test_smoothing_keeps_a_line_in_the_logarithm_of_the_rate() -> None:
    line = [2 - 0.1 * math.log10(r) for r in RATES]
    assert smooth(RATES, line)[20:40] == pytest.approx(line[20:40])
    assert smooth(RATES, [3.0] * 61) == pytest.approx([3.0] * 61)


def test_the_steepest_fall_is_proposed_and_the_rise_caps_it() -> None:
    # a fall centred on 1e-3 (a tanh in the logarithm), a rise that passes the start near 1e-1
    losses = [2 - math.tanh(2 * (math.log10(r) + 3)) for r in RATES]
    found = propose(RATES, losses)
    assert found is not None
    assert found.rate == found.steepest == pytest.approx(1e-3)
    assert found.rise is None
    steep = [3.0 if r < 9e-3 else 1.0 if r < 2e-2 else 5.0 for r in RATES]
    capped = propose(RATES, steep)
    assert capped is not None
    assert capped.rise == pytest.approx(10**-1.6)
    assert capped.rate == pytest.approx(10**-2.6)
    assert "a tenth of 0.025" in str(capped.reason)


def test_a_loss_that_never_falls_proposes_nothing() -> None:
    assert propose(RATES, [2.0 + 0.01 * i for i in range(61)]) is None
    assert propose(RATES, [2.0] * 61) is None


def test_the_verdict_compares_with_the_derived_rate() -> None:
    assert "agrees with it" in str(compare_rates(2e-3, 1e-3))
    assert "10 times the optim.lr=0.001" in str(compare_rates(1e-2, 1e-3))
    assert "a 10th of the optim.lr=0.001" in str(compare_rates(1e-4, 1e-3))
