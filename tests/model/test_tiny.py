"""model=tiny: the same weights and tokenizer each time, and a random state that is left alone."""

from __future__ import annotations

import pytest
import torch
from tests.model.folders import load_model

from fulgurite.errors import ConfigError
from fulgurite.model.config import Tiny
from fulgurite.model.tiny import outline


def test_tiny_is_the_same_whatever_was_drawn_before() -> None:
    torch.manual_seed(1)
    one = load_model(Tiny())
    torch.manual_seed(2)
    two = load_model(Tiny())
    for a, b in zip(one.model.parameters(), two.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_tiny_leaves_the_random_state_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    load_model(Tiny())
    assert torch.equal(before, torch.get_rng_state())


def test_tiny_has_chatml_and_any_text_round_trips() -> None:
    tokenizer = load_model(Tiny()).tokenizer
    for text in ("plain", "naïve 漢字 🙂", "a\n\nb\tc"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert "<|im_start|>user" in tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)


def test_the_outline_has_the_shape_and_tokenizer_of_the_model() -> None:
    config = Tiny(hidden=32, layers=3, vocabulary=300, length=128)
    shape, tokenizer = outline(config)
    loaded = load_model(config)
    assert shape.to_dict() == {**loaded.model.config.to_dict(), "use_cache": True, "dtype": None, "architectures": None}
    assert tokenizer.get_vocab() == loaded.tokenizer.get_vocab()
    assert (len(tokenizer), loaded.length) == (300, 128)
    sizes = (shape.hidden_size, shape.intermediate_size, shape.num_hidden_layers, shape.vocab_size)
    assert sizes == (32, 64, 3, 300)


def test_a_width_that_four_heads_cannot_share_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.hidden=12 is not allowed: .* multiple of 8"):
        outline(Tiny(hidden=12))
