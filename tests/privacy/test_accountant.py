"""Epsilon as Opacus counts it, noise solved for a target, and draws that are a function of secret and step."""

from __future__ import annotations

import math

import numpy as np
import pytest
from opacus.accountants import PRVAccountant, RDPAccountant
from torch import nn

from fulgurite.config.compose import compose
from fulgurite.config.facts import Facts
from fulgurite.config.resolve import fill
from fulgurite.data.sampler import PoissonSampler
from fulgurite.errors import ConfigError
from fulgurite.privacy.accountant import compute_epsilon, compute_rate, draw_rows, solve_noise
from fulgurite.privacy.config import DpSgd
from fulgurite.privacy.mechanism import Mechanism, build


def test_one_whole_step_is_the_gaussian_mechanism() -> None:
    # With a rate of 1 a step's Rényi divergence of order a is a / (2 noise^2) (Mironov 2017); as epsilon it is
    # a / (2 s^2) + ln((a-1)/a) - (ln delta + ln a)/(a-1) (Balle et al. 2020), at its best order of those Opacus tries.
    noise, delta = 4.0, 1e-5
    orders = [*(1 + x / 10 for x in range(1, 100)), *range(12, 64)]
    by_hand = min(
        a / (2 * noise**2) + math.log((a - 1) / a) - (math.log(delta) + math.log(a)) / (a - 1) for a in orders
    )
    assert compute_epsilon([(noise, 1.0, 1)], delta) == pytest.approx(by_hand, rel=1e-9)
    assert compute_epsilon([(noise, 1.0, 0)], delta) == compute_epsilon([], delta) == 0.0


@pytest.mark.parametrize(("name", "kind"), [("rdp", RDPAccountant), ("prv", PRVAccountant)])
def test_epsilon_is_what_opacus_counts_step_by_step(name: str, kind: type) -> None:
    config = DpSgd(delta=1e-4, noise_multiplier=0.9, accountant=name)  # type: ignore[arg-type]
    run = Mechanism(config, nn.Linear(2, 2), 400, 20, 30, 1)
    theirs = kind()
    for noise, steps in ((0.9, 12), (1.2, 5)):
        run.noise = noise
        for _ in range(steps):
            run.count()
            theirs.step(noise_multiplier=noise, sample_rate=0.05)
    assert run.history == theirs.history == [(0.9, 0.05, 12), (1.2, 0.05, 5)]
    assert run.epsilon() == theirs.get_epsilon(delta=1e-4)
    assert run.report()["steps"] == 17
    assert run.report()["epsilon"] == run.epsilon()


@pytest.mark.parametrize("accountant", ["rdp", "prv"])
@pytest.mark.parametrize(("target", "rate", "steps"), [(8.0, 0.02, 100), (1.0, 0.1, 40)])
def test_solved_noise_spends_the_target_and_no_more(accountant: str, target: float, rate: float, steps: int) -> None:
    noise = solve_noise(target, 1e-5, rate, steps, accountant)
    spent = compute_epsilon([(noise, rate, steps)], 1e-5, accountant)
    assert 0.99 * target < spent <= target


def test_a_budget_that_no_noise_keeps_is_refused() -> None:
    # The accountant's largest order is 63: even without any divergence epsilon is
    # (ln 1/delta - ln 63) / 62 + ln(62/63) = 0.10.
    with pytest.raises(ConfigError, match=r"privacy\.epsilon=0\.05 cannot be reached at delta 1e-05"):
        solve_noise(0.05, 1e-5, 0.1, 40)


def test_prv_needs_less_noise() -> None:
    assert 0.85 < solve_noise(8, 1e-5, 0.02, 100, "prv") / solve_noise(8, 1e-5, 0.02, 100, "rdp") < 0.97


def test_batches_are_four_times_as_large_and_full_gradients_fit() -> None:
    sizes = {}
    for words in ("method=lora", "method=full"):
        composed = compose(["privacy=dp_sgd", words, "data.max_length=64"])
        composed = fill(composed, Facts(rows=100_000, percentile_99=60, model_length=2048), "data")
        composed = fill(composed, Facts(rows=100_000, total_steps=2), "steps")
        sizes[words] = (composed.run.trainer.global_batch_size, composed.run.trainer.micro_batch_size)
    assert sizes == {"method=lora": (64, 16), "method=full": (256, 3)}  # 2 GB hold three rows' gradients of 0.54 GB


def test_a_run_that_would_overspend_is_refused_before_and_when_it_goes_on() -> None:
    config = DpSgd(delta=1e-4, noise_multiplier=0.5, epsilon=1.0)
    with pytest.raises(
        ConfigError, match=r"noise_multiplier=0\.5 would spend epsilon .* in 50 steps, more than privacy\.epsilon=1"
    ):
        build(config, nn.Linear(2, 2), rows=1000, batch_size=50, total_steps=50, secret=1)
    noise = solve_noise(1.0, 1e-4, 0.05, 50)
    kept = DpSgd(delta=1e-4, noise_multiplier=noise, epsilon=1.0)
    enough = build(kept, nn.Linear(2, 2), rows=1000, batch_size=50, total_steps=50, secret=1)
    enough.load({"history": [[noise, 0.05, 20]]})
    assert enough.history == [(noise, 0.05, 20)]
    with pytest.raises(ConfigError, match="would spend epsilon"):
        enough.load({"history": [[noise / 2, 0.05, 20]]})
    with pytest.raises(ConfigError, match=r"trainer\.global_batch_size=51 is more than the 50 examples"):
        build(config, nn.Linear(2, 2), rows=50, batch_size=51, total_steps=1, secret=1)
    with pytest.raises(
        ConfigError, match=r"privacy\.delta=0\.1 is too large for 50 examples: .* Use less than 0\.02"
    ):
        build(DpSgd(delta=0.1, noise_multiplier=1.0), nn.Linear(2, 2), rows=50, batch_size=5, total_steps=1, secret=1)


# -- draws -------------------------------------------------------------------------------------------------------------


def test_draws_are_a_function_of_secret_and_step() -> None:
    steps = [draw_rows(5, step, 200, 0.1).tolist() for step in range(30)]
    assert [draw_rows(5, step, 200, 0.1).tolist() for step in reversed(range(30))] == steps[::-1]
    assert len({tuple(s) for s in steps}) == 30
    assert draw_rows(6, 0, 200, 0.1).tolist() != steps[0]
    assert draw_rows(2**100 + 5, 0, 200, 0.1).tolist() != steps[0]  # all of the secret's bits count
    assert draw_rows(5, 0, 20, 1.0).tolist() == list(range(20))


def test_each_row_enters_by_itself_at_the_rate() -> None:
    rows, steps, rate = 60, 2000, 0.07
    taken = np.zeros((steps, rows))
    for step in range(steps):
        taken[step, draw_rows(11, step, rows, rate)] = 1
    sigma = (rate * (1 - rate) / steps) ** 0.5
    assert np.abs(taken.mean(0) - rate).max() < 4 * sigma
    sizes = taken.sum(1)
    assert sizes.var() == pytest.approx(rows * rate * (1 - rate), rel=0.2)  # a fixed batch size would have none
    together = (taken[:, :-1] * taken[:, 1:]).mean()
    assert together == pytest.approx(rate**2, rel=4 / (rate * (steps * (rows - 1)) ** 0.5))


def test_micro_batches_hold_each_draw_whole_also_none_and_too_many() -> None:
    lengths = np.arange(40)[::-1].copy()
    draws = {0: [], 1: [3, 30, 7], 2: list(range(40))}
    order = PoissonSampler(lengths, 4, 2, lambda step: np.array(draws[step], dtype=np.int64))
    assert (order.micro_batches_per_step, order.steps_per_epoch) == (
        5,
        10,
    )  # 4 and three deviations of 2: 10 rows by twos
    assert order.list_micro_batches(0) == [[]] * 5
    assert order.list_micro_batches(1) == [[], [], [], [30, 7], [3]]
    large = order.list_micro_batches(2)
    assert [len(cut) for cut in large] == [8] * 5
    assert sorted(n for cut in large for n in cut) == list(range(40))
    assert compute_rate(4, 40) == 0.1
