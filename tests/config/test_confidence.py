"""The confidence of a source, by its own words."""

from __future__ import annotations

import pytest

from fulgurite.config.confidence import Sure, grade_source


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("Ours, measured at 135M", Sure.measured),
        ("Ours: other trainers do not", Sure.ours),
        ("QLoRA 64 (verified)", Sure.verified),
        ("Hu et al., https://arxiv.org/abs/2106.09685", Sure.paper),
        ("Lightning docs, Trainer(devices=...)", Sure.practice),
        ("somebody", None),
    ],
)
def test_the_first_kind_of_word_counts(source: str, expected: Sure | None) -> None:
    assert grade_source(source) == expected
