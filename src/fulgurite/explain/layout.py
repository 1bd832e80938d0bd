"""Formats values, ranges and types as words in the current language."""

from __future__ import annotations

import re
from enum import Enum
from typing import Any

from fulgurite.config.schema import Range
from fulgurite.explain.translations import current, fixed


def value_words(value: Any) -> str:
    """A value as one writes it on the command line: `5e-4`, `true`, `[0.9, 0.999]`; `empty` for None."""
    if value is None:
        return fixed("empty")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(value_words, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {value_words(v)}" for k, v in value.items()) + "}"
    return str(value) if value != "" else "''"


def usual_words(usual: Range | tuple[Any, ...]) -> str:
    """`1e-4 to 2e-3` for a range, `8, 16 or 32` for a list of values."""
    if isinstance(usual, Range) and current() != "en":
        return _range_words(usual)
    if isinstance(usual, Range):
        return re.sub(r"\d[\d.e+-]*", lambda number: value_words(float(number[0])), str(usual))
    *most, last = map(value_words, usual)
    return f"{', '.join(most)} {fixed('or')} {last}" if most else last


def _range_words(x: Range) -> str:
    """A range in a language that has its own order of words: `str(Range)` is English."""
    if x.low is not None and x.high is not None:
        words = fixed("{low} to {high}").format(low=value_words(x.low), high=value_words(x.high))
        ends = [value_words(v) for v, is_open in ((x.low, x.open_low), (x.high, x.open_high)) if is_open]
        return words + (fixed(" ({ends} excluded)").format(ends=f" {fixed('and')} ".join(ends)) if ends else "")
    if x.low is not None:
        return fixed("above {x}" if x.open_low else "at least {x}").format(x=value_words(x.low))
    if x.high is not None:
        return fixed("below {x}" if x.open_high else "at most {x}").format(x=value_words(x.high))
    return fixed("any number")


def kind_words(words: str) -> str:
    """`schema.type_words` in the language spoken."""
    for head in ("list of ", "one of "):
        if words.startswith(head):
            rest = words.removeprefix(head)
            return fixed(head.strip()) + " " + (kind_words(rest) if head == "list of " else rest)
    return fixed(words)


def _number(x: float) -> str:
    """Small numbers as rates are spoken of: `5e-4`, not `0.0005`; whole ones without a point."""
    if abs(x) < 1e9 and x == int(x):
        return str(int(x))
    if abs(x) < 0.01:
        digits, _, exponent = f"{x:.3e}".partition("e")
        return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"
    return f"{x:g}"
