"""The declarations of schedules: the derived warmup and timescale, and flags that agree with the curves."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from fulgurite.config.compose import compose
from fulgurite.config.facts import Facts
from fulgurite.config.resolve import fill_run
from fulgurite.config.run import RunConfig, load_options
from fulgurite.config.schema import build, list_options
from fulgurite.scheduler.config import Scheduler

load_options()
SCHEDULERS: dict[str, type[Scheduler]] = list_options("scheduler")  # type: ignore[assignment]
CURVES = [name for name, option in SCHEDULERS.items() if not option.monitors]


@pytest.fixture(scope="module")
def run() -> RunConfig:
    """A run whose parameters are all filled, but for those of the schedule that a test puts in."""
    done, _ = fill_run(compose(["model=tiny"]).run, Facts(rows=100, percentile_99=10, model_length=1024), "data")
    return done


def filled(run: RunConfig, total: int, name: str, **given: Any) -> tuple[Any, dict[str, str]]:
    """A schedule whose empty parameters are filled for a run of `total` steps, and the reasons."""
    changed = dataclasses.replace(run, scheduler=SCHEDULERS[name](**given))
    changed, first = fill_run(changed, Facts())
    changed, second = fill_run(changed, Facts(rows=100, total_steps=total), "steps")
    return changed.scheduler, {d.parameter: d.reason for d in (*first, *second)}


@pytest.mark.parametrize(
    ("total", "ratio", "steps"), [(100, 0.03, 3), (101, 0.03, 4), (10, 0.0, 0), (10, 0.95, 9), (1, 0.5, 0), (0, 0.5, 0)]
)
def test_warmup_steps_are_the_ratio_rounded_up_and_leave_one_step(
    run: RunConfig, total: int, ratio: float, steps: int
) -> None:
    scheduler, reasons = filled(run, total, "cosine", warmup_ratio=ratio)
    assert scheduler.warmup_steps == steps
    capped = f"{ratio:g} of {total} steps, less the last step, which is no warmup"
    rounded = f"{ratio:g} of {total} steps, rounded up"
    assert reasons["scheduler.warmup_steps"] == (rounded if steps >= ratio * total else capped)


def test_given_warmup_steps_win_over_the_ratio_which_is_a_tenth_when_empty(run: RunConfig) -> None:
    assert filled(run, 100, "cosine", warmup_ratio=0.5, warmup_steps=7)[0].warmup_steps == 7
    scheduler, reasons = filled(run, 100, "cosine")
    assert (scheduler.warmup_ratio, scheduler.warmup_steps) == (0.1, 10)
    assert "10 %" in reasons["scheduler.warmup_ratio"]


@pytest.mark.parametrize(
    ("given", "steps"),
    [({"warmup_steps": 20}, 20), ({"warmup_steps": 0}, 10_000), ({"timescale": 5}, 5), ({"warmup_ratio": 0.25}, 10)],
)
def test_timescale_is_the_warmup_or_ten_thousand_as_in_transformers(
    run: RunConfig, given: dict[str, float], steps: int
) -> None:
    assert filled(run, 40, "inverse_sqrt", **given)[0].timescale == steps


@pytest.mark.parametrize("name", CURVES)
def test_declared_fall_and_steadiness_are_those_of_the_curve(run: RunConfig, name: str) -> None:
    scheduler = filled(run, 40, name)[0]
    curve = build(scheduler, total=40, lr=1e-3)
    factors = [curve(step) for step in range(41)]
    assert max(factors) == 1.0
    assert scheduler.steady == (set(factors) == {1.0})
    assert scheduler.falls == (factors[-1] < 1.0)


def test_only_the_plateau_follows_the_validation_loss() -> None:
    assert set(SCHEDULERS) - set(CURVES) == {"reduce_lr_on_plateau"}
