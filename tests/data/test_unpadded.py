"""The tokens of a padded micro-batch as one row: which they are, and the way back."""

from __future__ import annotations

import pytest
import torch

from fulgurite.data.unpadded import describe_unpadded, find_unpadded

LENGTHS, LONGEST = [3, 1, 4], 4


def test_rows_become_one_row_and_come_back() -> None:
    found = find_unpadded(LENGTHS, LONGEST)
    assert found is not None
    ids_BT = torch.tensor([[5, 6, 7, 0], [8, 0, 0, 0], [1, 2, 3, 4]])
    assert found.take(ids_BT).tolist() == [[5, 6, 7, 8, 1, 2, 3, 4]]
    assert found.positions_1N.tolist() == [[0, 1, 2, 0, 0, 1, 2, 3]]
    assert found.documents.lengths == (3, 1, 4)
    assert found.documents.bounds.tolist() == [0, 3, 4, 8]
    restored_BTD = found.restore(found.take(ids_BT)[..., None])
    real_BT = torch.arange(LONGEST) < torch.tensor(LENGTHS)[:, None]
    assert torch.equal(restored_BTD[..., 0][real_BT], ids_BT[real_BT])


def test_labels_are_placed_alike_as_a_mask_and_as_numbers() -> None:
    found = find_unpadded(LENGTHS, LONGEST)
    assert found is not None
    mask_BT = torch.tensor([[0, 1, 1, 0], [1, 0, 0, 0], [0, 0, 1, 0]], dtype=torch.bool)
    numbers = mask_BT.flatten().nonzero()[:, 0]
    assert found.place(numbers).tolist() == [1, 2, 3, 6]
    assert found.place(mask_BT).flatten().nonzero()[:, 0].tolist() == [1, 2, 3, 6]


def test_documents_of_packed_rows_stay_apart_and_padding_is_none_of_them() -> None:
    positions_BT = torch.tensor([[0, 1, 0, 1], [0, 0, 0, 1]])  # the second row has two tokens of its own
    found = find_unpadded([4, 2], 4, positions_BT)
    assert found is not None
    assert found.documents.lengths == (2, 2, 1, 1)
    assert found.positions_1N.tolist() == [[0, 1, 0, 1, 0, 0]]


@pytest.mark.parametrize("lengths", [[4, 4], [7], [100, 99], []])
def test_rows_with_little_padding_stay_as_they_are(lengths: list[int]) -> None:
    assert describe_unpadded(lengths, max(lengths, default=0)) == {}
