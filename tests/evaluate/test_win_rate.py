"""Win rates, and their intervals beside the distribution that the bootstrap draws from."""

from __future__ import annotations

import math

import pytest

from fulgurite.evaluate.win_rate import LEVEL, compute_win_rate, flatten


def find_quantile(share: float, count: int, chance: float) -> int:
    """The quantile of a binomial distribution: wins among `count` questions that are drawn again."""
    total = 0.0
    for wins in range(count + 1):
        total += math.comb(count, wins) * chance**wins * (1 - chance) ** (count - wins)
        if total >= share:
            return wins
    return count


@pytest.mark.parametrize(("wins", "count"), [(14, 20), (5, 40), (33, 50)])
def test_interval_without_ties_is_that_of_the_binomial_distribution(wins: int, count: int) -> None:
    found = compute_win_rate([1.0] * wins + [0.0] * (count - wins))
    low, high = (find_quantile(share, count, wins / count) for share in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    assert found.rate == pytest.approx(wins / count)
    assert (found.low, found.high) == pytest.approx((low / count, high / count))
    assert (found.wins, found.ties, found.losses) == (wins, 0, count - wins)


def test_a_tie_counts_half() -> None:
    found = compute_win_rate([1.0, 0.5, 0.5, 0.0, 0.0])
    assert (found.rate, found.wins, found.ties, found.losses) == (0.4, 1, 2, 2)


def test_one_sided_outcomes_have_no_width() -> None:
    found = compute_win_rate([1.0] * 7)
    assert (found.rate, found.low, found.high) == (1.0, 1.0, 1.0)


def test_the_interval_depends_on_the_seed_alone() -> None:
    outcomes = [1.0] * 30 + [0.5] * 7 + [0.0] * 20
    assert compute_win_rate(outcomes, 3) == compute_win_rate(outcomes, 3)


def test_names_of_numbers() -> None:
    found = flatten(compute_win_rate([1.0]), "/exact_match")
    assert found == {"win_rate/exact_match": 1.0, "win_rate_low/exact_match": 1.0, "win_rate_high/exact_match": 1.0}
