"""Full-width letters, digits and punctuation of a Chinese keyboard, written in half width."""

from __future__ import annotations

import unicodedata

from fulgurite.config.overrides import find_text_kind
from fulgurite.config.schema import Knob

PUNCTUATION = {"＝": "=", "：": ":", "，": ",", "。": ".", "、": ",", "【": "[", "】": "]", "“": '"', "”": '"'}
"""Signs of a Chinese keyboard that are one of ours."""


def widen_nothing(word: str, knobs: dict[str, Knob]) -> str:
    """Returns a word in half width: its name, and its value if that is no text."""
    if word.isascii():
        return word
    head, equals, value = word.partition("=") if "=" in word else word.partition("＝")
    name = narrow(head)
    if not equals:
        half = narrow(word)
        return half if half.partition(":")[0] in knobs else word
    is_text = name in knobs and find_text_kind(name, knobs) != ""
    return f"{name}={value if is_text else narrow(value)}"


def narrow(text: str) -> str:
    """Returns a text in half width."""
    return unicodedata.normalize("NFKC", "".join(PUNCTUATION.get(sign, sign) for sign in text))
