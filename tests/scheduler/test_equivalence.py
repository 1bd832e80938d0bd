"""Coincidences are found from the curves: the well-known ones are there, and nothing that differs is."""

from __future__ import annotations

from typing import Any

import pytest

from fulgurite.config.schema import list_options
from fulgurite.scheduler import config as c
from fulgurite.scheduler.equivalence import describe_same, fill_config, find_coincidences, find_same


def names(config: Any, total: int = 1000, lr: float = 1e-4) -> set[str]:
    return {name for name, _ in find_same(config, total, lr)}


@pytest.mark.parametrize(
    ("config", "other"),
    [
        (c.CosineWithRestarts(cycles=1), "cosine"),
        (c.CosineWithMinLr(min_ratio=0.0), "cosine"),
        (c.Polynomial(power=1.0), "linear"),
        (c.ConstantWithWarmup(warmup_steps=0), "constant"),
        (c.Constant(), "constant_with_warmup"),
        (c.WarmupStableDecay(decay_ratio=1.0), "cosine"),
    ],
    ids=lambda x: getattr(x, "name", x),
)
def test_the_same_curve_under_another_name(config: Any, other: str) -> None:
    assert other in names(config)


def test_inverse_sqrt_without_warmup_is_nearly_constant_in_a_short_run_only() -> None:
    # 1 - 1/√(1 + 199/10000) = 0.98 %, and 4.7 % after 999 steps
    [(_, distance)] = [pair for pair in find_same(c.InverseSqrt(warmup_steps=0), 200, 1e-4) if pair[0] == "constant"]
    assert distance == pytest.approx(0.0098, abs=1e-4)
    assert "constant" not in names(c.InverseSqrt(warmup_steps=0), 1000)


@pytest.mark.parametrize(
    "cls", [c.Linear, c.Cosine, c.CosineWithRestarts, c.Polynomial, c.InverseSqrt, c.WarmupStableDecay]
)
def test_defaults_differ_from_each_other(cls: type[c.Scheduler]) -> None:
    assert names(cls()) == set()


def test_the_plateau_is_no_curve() -> None:
    assert find_same(c.ReduceLrOnPlateau(), 1000, 1e-4) == []


def test_a_long_run_is_sampled_not_walked() -> None:
    assert "cosine" in names(c.CosineWithRestarts(cycles=1), total=5_000_000)


def test_a_rate_at_which_polynomial_cannot_be_had_is_no_coincidence() -> None:
    assert "polynomial" not in names(c.Linear(), lr=1e-8)


def test_sentences_name_both_and_the_distance() -> None:
    assert str(describe_same(c.CosineWithRestarts(cycles=1), 100, 1e-4)[0]) == (
        "In this run scheduler=cosine_with_restarts follows the same curve as scheduler=cosine, exactly."
    )
    assert describe_same(c.Cosine(), 100, 1e-4) == []


def test_pages_tell_at_which_values_two_schedules_meet() -> None:
    restarts = "scheduler=cosine_with_restarts scheduler.cycles=1 is the same curve as scheduler=cosine, exactly."
    assert restarts in map(str, find_coincidences("cosine_with_restarts"))
    assert restarts in map(str, find_coincidences("cosine"))
    assert any("scheduler.power=1" in str(s) and "scheduler=linear" in str(s) for s in find_coincidences("linear"))
    assert any("constant_with_warmup scheduler.warmup_steps=0" in str(s) for s in find_coincidences("constant"))
    assert find_coincidences("inverse_sqrt") == []


def test_every_schedule_can_be_filled_and_asked() -> None:
    for name, cls in list_options("scheduler").items():
        made: Any = fill_config(cls(), 50)  # type: ignore[call-overload]
        assert getattr(made, "warmup_steps", 0) in (0, 5), name  # 10 % of 50
