"""Names in overrides, and keys of mappings in signs that Hydra reads."""

from __future__ import annotations

import re

import pytest

from fulgurite.config.override_names import decode_key, encode_key, read_name


@pytest.mark.parametrize("word", ["optim.lr=1", "+optim.lr=1", "++optim.lr=a=b", "~optim.lr", " optim.lr =1"])
def test_the_name_that_an_override_sets(word: str) -> None:
    assert read_name(word) == "optim.lr"


@pytest.mark.parametrize("key", ["a", "问题", "a (b)?", "a: b", "", "x=y,{z}", "\udcff"])
def test_any_key_comes_back_and_has_only_letters_digits_and_underscores(key: str) -> None:
    encoded = encode_key(key)
    assert re.fullmatch(r"\w+", encoded, re.ASCII)
    if key:
        assert decode_key(encoded) == key


@pytest.mark.parametrize("key", ["plain", "hex_of_utf8_", "hex_of_utf8_6", "hex_of_utf8_zz", "a_hex_of_utf8_61"])
def test_a_key_that_was_not_encoded_stays(key: str) -> None:
    assert decode_key(key) == key
