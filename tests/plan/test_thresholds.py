"""The limits at which rules speak, and how far outside its range a value is refused."""

from __future__ import annotations

import math

import pytest
from tests.plan.facts import build_facts

from fulgurite.config.schema import Range
from fulgurite.plan.thresholds import ABSURD, FAR, is_refused, is_trial, measure_excess


@pytest.mark.parametrize(
    ("value", "usual", "times"),
    [
        (4.0, Range(1, 8), 1), (1.0, Range(1, 8), 1), (24.0, Range(1, 8), 3), (0.25, Range(1, 8), 0.25),
        (5.0, None, 1), (5.0, (1, 2), 1), (3.0, Range(None, 0), math.inf), (-1.0, Range(0, None), 1),
        (0.5, Range(2, None), 0.25),
    ],
)
def test_distance_from_a_range_is_a_ratio(value: float, usual: Range | tuple[int, ...] | None, times: float) -> None:
    assert measure_excess(value, usual) == times


def test_short_requested_run_or_toy_model_is_a_trial() -> None:
    assert is_trial(build_facts("trainer.max_steps=20", steps=20))
    assert not is_trial(build_facts("trainer.max_steps=200", steps=200))
    assert not is_trial(build_facts(steps=20))  # nobody asked for so few
    assert is_trial(build_facts("model=tiny"))


@pytest.mark.parametrize("times", [FAR, 1 / FAR])
def test_value_far_outside_is_refused_but_not_in_a_trial(times: float) -> None:
    run, trial = build_facts(), build_facts("model=tiny")
    further = times ** 1.01
    assert not is_refused(run, times)
    assert is_refused(run, further)
    assert not is_refused(trial, further)
    assert is_refused(run, 6.0, far=5.0)


@pytest.mark.parametrize("times", [ABSURD, 1 / ABSURD])
def test_absurd_value_is_refused_in_a_trial_too(times: float) -> None:
    trial = build_facts("model=tiny")
    assert not is_refused(trial, times)
    assert is_refused(trial, times ** 1.01)
