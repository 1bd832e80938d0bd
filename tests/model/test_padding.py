"""Padding of a reward model: a special token that ends no answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.model.folders import load_model

from fulgurite.model.config import Tiny
from fulgurite.model.padding import NEW_PADDING, free_padding


@dataclass
class Special:
    """The special tokens of a tokenizer."""

    pad_token_id: int | None = None
    unk_token_id: int | None = None
    all_special_ids: list[int] = field(default_factory=list)


@pytest.mark.parametrize(("tokenizer", "stops", "expected"), [
    (Special(pad_token_id=7), [2], 7), (Special(pad_token_id=2, unk_token_id=0), [2], 0),
    (Special(2, 3, [2, 3, 5]), [2, 3], 5), (Special(2, None, [2]), [2], None), (Special(), [2], None),
    (Special(pad_token_id=0), [2], 0),
])
def test_the_first_special_token_that_ends_no_answer(tokenizer: Any, stops: list[int], expected: int | None) -> None:
    assert free_padding(tokenizer, stops) == expected


def test_tinys_padding_is_free_and_its_start_token_is_next() -> None:
    tokenizer = load_model(Tiny()).tokenizer
    assert free_padding(tokenizer, [tokenizer.eos_token_id]) == tokenizer.pad_token_id
    start = tokenizer.convert_tokens_to_ids("<|im_start|>")
    assert free_padding(tokenizer, [tokenizer.eos_token_id, tokenizer.pad_token_id]) == start
    assert NEW_PADDING[0] in tokenizer.get_vocab()
