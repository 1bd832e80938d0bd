"""YAML of somebody else: plain values, or one sentence."""

from __future__ import annotations

import pytest

from fulgurite.errors import ConfigError
from fulgurite.files.yaml_text import load_yaml


def test_plain_values_are_read() -> None:
    assert load_yaml("a: 1\nb: [x, true, null]\n") == {"a": 1, "b": ["x", True, None]}


@pytest.mark.parametrize(("text", "match"), [
    ("a: [1", "This is not YAML"), ("a: !!python/object/apply:os.system [x]", "This is not YAML"),
    ("a: &x [1, 1]\nb: *x", "has aliases"), ("a" * 1_000_001, "larger than 1,000,000 bytes"),
    ("a: \x00", "This is not YAML"),
])
def test_anything_else_is_one_sentence(text: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        load_yaml(text)
