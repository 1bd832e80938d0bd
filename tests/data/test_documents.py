"""The documents of packed rows, read from positions that start again."""

from __future__ import annotations

import pickle

import pytest
import torch

from fulgurite.data.documents import find_documents


@pytest.mark.parametrize(("positions", "lengths"), [
    ([[0, 1, 2, 0, 1], [0, 0, 1, 2, 0]], (3, 2, 1, 3, 1)),
    ([[0, 1, 2]], (3,)),
    ([[0, 1], [0, 1]], (2, 2)),
    ([[0, 0, 0]], (1, 1, 1)),
    ([[5, 6, 7, 0, 1]], (3, 2)),
    (torch.zeros(0, 0, dtype=torch.int64), ()),
])
def test_a_document_begins_where_positions_start_again_and_at_each_row(
    positions: list[list[int]], lengths: tuple[int, ...]
) -> None:
    found = find_documents(torch.as_tensor(positions))
    assert (found.lengths, found.longest, found.total) == (lengths, max(lengths, default=0), sum(lengths))
    assert found.bounds.dtype == torch.int32
    assert found.bounds.tolist() == [sum(lengths[:n]) for n in range(len(lengths) + 1)]


def test_they_move_with_the_batch_and_pass_from_a_worker() -> None:
    found = find_documents(torch.tensor([[0, 1, 0]]))
    for other in (found.to("cpu"), found.to(torch.device("meta")), pickle.loads(pickle.dumps(found))):
        assert (other.lengths, other.longest) == ((2, 1), 2)
    assert found.to("meta").bounds.device.type == "meta"
