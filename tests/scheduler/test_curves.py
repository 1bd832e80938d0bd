"""Each schedule equals transformers' at every step, bit for bit; the rest follows from the declarations."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import get_scheduler

from fulgurite.config.schema import build, list_options
from fulgurite.errors import ConfigError
from fulgurite.scheduler import curves
from fulgurite.scheduler.config import (
    Constant,
    ConstantWithWarmup,
    Cosine,
    CosineWithMinLr,
    CosineWithRestarts,
    InverseSqrt,
    Linear,
    Polynomial,
    ReduceLrOnPlateau,
    Scheduler,
    Warm,
    WarmupStableDecay,
)

LR = 3e-4
BEYOND = 7
"""Steps past the end: a run that repeats its data may go there."""

RUNS = [(1, 0), (2, 1), (3, 0), (7, 3), (10, 9), (40, 0), (100, 1), (100, 37), (250, 25), (20, 50)]
"""(total, warmup), the last with a warmup longer than the run."""

# (ours, transformers' name, transformers' arguments by (config, total, warmup))
Kwargs = Callable[[Any, int, int], dict[str, Any]]
NONE: Kwargs = lambda c, total, warmup: {}  # noqa: E731
CASES: list[tuple[Scheduler, str, Kwargs]] = [
    (Constant(), "constant", NONE),
    (ConstantWithWarmup(), "constant_with_warmup", NONE),
    (Linear(), "linear", NONE),
    (Cosine(), "cosine", NONE),
    *(
        (CosineWithRestarts(cycles=n), "cosine_with_restarts", lambda c, t, w: {"num_cycles": c.cycles})
        for n in (1, 2, 3, 7)
    ),
    *(
        (CosineWithMinLr(min_ratio=r), "cosine_with_min_lr", lambda c, t, w: {"min_lr_rate": c.min_ratio})
        for r in (0.0, 0.1, 1.0)
    ),
    *(
        (Polynomial(power=p, lr_end=e), "polynomial", lambda c, t, w: {"power": c.power, "lr_end": c.lr_end})
        for p, e in itertools.product((0.5, 1.0, 2.0, 3.3), (0.0, 1e-7, 1e-4))
    ),
    (InverseSqrt(), "inverse_sqrt", NONE),
    *((InverseSqrt(timescale=n), "inverse_sqrt", lambda c, t, w: {"timescale": c.timescale}) for n in (1, 10, 500)),
    *(
        (
            WarmupStableDecay(decay_ratio=d, min_ratio=m),
            "warmup_stable_decay",
            lambda c, t, w: {
                "num_decay_steps": curves.count_decay_steps(t, w, c.decay_ratio), "min_lr_ratio": c.min_ratio,
            },
        )
        for d, m in itertools.product((0.01, 0.2, 2 / 3, 1.0), (0.0, 0.1))
    ),
]


def theirs(name: str, kwargs: dict[str, Any], total: int, warmup: int, steps: int) -> list[float]:
    """transformers' rate at each step, read from a real optimizer."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
    schedule = get_scheduler(name, optimizer, warmup, total, kwargs)
    rates = []
    for _ in range(steps):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return rates


@pytest.mark.parametrize(("total", "warmup"), RUNS)
@pytest.mark.parametrize(("config", "name", "kwargs"), CASES, ids=lambda x: repr(x) if isinstance(x, Scheduler) else "")
def test_equals_transformers_at_every_step(config: Any, name: str, kwargs: Kwargs, total: int, warmup: int) -> None:
    if hasattr(config, "warmup_steps"):
        config.warmup_steps = warmup
    curve = build(config, total=total, lr=LR)
    expected = theirs(name, kwargs(config, total, warmup), total, warmup, total + BEYOND)
    assert [LR * curve(step) for step in range(total + BEYOND)] == expected


def test_every_option_is_compared_with_transformers() -> None:
    compared = {type(config) for config, _, _ in CASES} | {ReduceLrOnPlateau}  # the plateau has its own test
    assert set(list_options("scheduler").values()) == compared
    assert len(compared) == 10


def test_the_arithmetic_by_hand() -> None:
    # 10 steps, 2 of them warmup: 0, 1/2, then from 1 down
    assert [curves.linear(s, total=10, warmup=2) for s in (0, 1, 2, 6, 10)] == [0.0, 0.5, 1.0, 0.5, 0.0]
    assert curves.cosine(6, total=10, warmup=2) == pytest.approx(0.5)  # cos(π/2) = 0
    assert curves.cosine(10, total=10, warmup=2, floor=0.1) == pytest.approx(0.1)
    assert curves.polynomial(6, total=10, warmup=2, power=2, lr=1.0, lr_end=0.0) == 0.25  # half the time left, squared
    assert curves.inverse_sqrt(5, warmup=2, timescale=1) == 0.5  # 1/√(1 + 3/1)
    # restarts: at half of the way the second cycle begins at the peak
    assert curves.cosine_with_restarts(6, total=10, warmup=2, cycles=2) == 1.0


def test_the_first_step_of_a_warmup_has_rate_zero_and_its_last_the_peak() -> None:
    warm = [cls for cls in list_options("scheduler").values() if issubclass(cls, Warm)]
    assert len(warm) == 8
    for cls in warm:
        curve = build(cls(warmup_steps=4), total=20, lr=LR)
        assert curve(0) == 0.0, cls
        assert curve(4) == pytest.approx(1.0), cls


def test_polynomial_ends_at_lr_end_if_all_steps_are_warmup() -> None:
    config = Polynomial(warmup_steps=5, lr_end=1e-7)
    with pytest.raises(ZeroDivisionError):
        theirs("polynomial", {}, 5, 5, 6)
    assert build(config, total=5, lr=LR)(5) == 1e-7 / LR


def test_a_final_rate_above_the_peak_is_refused_with_the_remedy() -> None:
    with pytest.raises(ConfigError, match=r"scheduler.lr_end=0.001 must be below optim.lr=0.0003; leave it"):
        build(Polynomial(warmup_steps=0, lr_end=1e-3), total=10, lr=LR)


def test_a_curve_is_not_built_from_an_unfilled_warmup() -> None:
    with pytest.raises(TypeError, match="filled in"):
        build(Cosine(), total=10, lr=LR)


@pytest.mark.parametrize(
    ("total", "warmup", "ratio", "steps"),
    [(1000, 100, 0.2, 200), (10, 0, 0.01, 1), (10, 8, 1.0, 2), (10, 10, 0.5, 0), (5, 9, 0.5, 0)],
)
def test_the_fall_takes_no_more_than_the_warmup_leaves(total: int, warmup: int, ratio: float, steps: int) -> None:
    assert curves.count_decay_steps(total, warmup, ratio) == steps


def test_curves_and_their_plot_load_no_torch() -> None:
    code = (
        "import sys, fulgurite.scheduler.curves, fulgurite.scheduler.plateau, fulgurite.scheduler.equivalence\n"
        "from fulgurite.scheduler.config import Cosine, ReduceLrOnPlateau\n"
        "from fulgurite.scheduler.plot import plot\n"
        "plot(Cosine()); plot(ReduceLrOnPlateau())\n"
        "heavy = {'torch', 'transformers', 'lightning', 'numpy', 'hydra'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
