"""Bars of lengths: all examples are counted, in steps, and a few long ones share the last bar."""

from __future__ import annotations

from itertools import pairwise

import pytest

from fulgurite.board.worker.length_bins import MOST, count_bins


@pytest.mark.parametrize(
    "lengths", [[1], [5, 5, 5], list(range(1, 2000)), [100] * 999 + [90_000], [3_000_000, 1], [50, 100, 150]]
)
def test_every_example_is_in_one_bar(lengths: list[int]) -> None:
    bins = count_bins(lengths)
    tops = [top for top, _ in bins]
    assert sum(count for _, count in bins) == len(lengths)
    assert tops == sorted(set(tops))
    assert tops[-1] >= max(lengths)
    assert len(bins) <= MOST + 1
    before = 0
    for top, count in bins:
        assert count == sum(before < length <= top for length in lengths)
        before = top


def test_a_long_example_gets_the_last_bar() -> None:
    bins = count_bins([*range(1, 200), 90_000])
    assert bins[-1] == [90_000, 1]
    assert {two - one for (one, _), (two, _) in pairwise(bins[:-1])} == {10}


def test_a_bar_ends_where_examples_are_cut() -> None:
    bins = count_bins(list(range(1, 201)), 123)
    assert sum(count for top, count in bins if top <= 123) == 123
    assert [top for top, _ in count_bins([1, 2, 3], 500)] == [1, 2, 3], "nothing is cut"


def test_nothing_has_no_bars() -> None:
    assert count_bins([]) == []
