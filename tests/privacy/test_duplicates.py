"""Rows that are copies of others, and the sentence on what one row is."""

from __future__ import annotations

import numpy as np

from fulgurite.privacy.duplicates import count_duplicates, describe_unit


def test_copies_are_counted_and_described() -> None:
    class Row:
        def __init__(self, *ids: int) -> None:
            self.input_ids = np.array(ids)

    assert count_duplicates([Row(1, 2), Row(3), Row(1, 2), Row(1, 2), Row(3), Row(4)]) == (3, 3)
    assert str(describe_unit(3, 3, 2)) == (
        "3 examples are copies of others (up to 3 identical), and 2 examples are further parts of one record: "
        "the protection of a person with k such examples is k times weaker"
    )
    assert str(describe_unit(3, 3, 0)).startswith("3 examples are copies of others (up to 3 identical): ")
    assert str(describe_unit(0, 1, 2)).startswith("2 examples are further parts of one record: ")
    assert not describe_unit(0, 1, 0)
