"""Best-fit packing keeps every example, once, and never overfills a row."""

from __future__ import annotations

import numpy as np
import pytest

from fulgurite.data.packing import pack_best_fit


@pytest.mark.parametrize("seed", range(20))
def test_every_example_once_and_no_row_too_full(seed: int) -> None:
    random = np.random.default_rng(seed)
    capacity = int(random.integers(8, 200))
    lengths = random.integers(1, capacity + 1, int(random.integers(1, 300))).tolist()
    bins = pack_best_fit(lengths, capacity)
    assert sorted(n for row in bins for n in row) == list(range(len(lengths)))
    fill = [sum(lengths[n] for n in row) for row in bins]
    assert max(fill) <= capacity
    # Best fit leaves no two rows that would fit into one.
    assert len(fill) == 1 or sum(sorted(fill)[:2]) > capacity


def test_by_hand() -> None:
    # Room 10: 7 opens a row, 6 a second, 4 best fits beside 6 (room 4), 3 beside 7, 2 opens a third.
    assert pack_best_fit([3, 7, 4, 6, 2], 10) == [[1, 0], [3, 2], [4]]
    assert pack_best_fit([], 10) == []


def test_the_fullest_row_with_room_is_taken() -> None:
    # 8 and 5 open rows (room 2 and 5); 2 goes where it leaves nothing.
    assert pack_best_fit([8, 5, 2], 10) == [[0, 2], [1]]


def test_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="example 1 has 11 tokens"):
        pack_best_fit([3, 11], 10)
