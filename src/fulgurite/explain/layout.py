"""Formats values, ranges and types as words in the current language."""

from __future__ import annotations

import re
from enum import Enum
from typing import Any

from fulgurite.config.schema import Range
from fulgurite.language.catalogue import translate
from fulgurite.language.current import get_language


def format_value(value: Any) -> str:
    """A value as one writes it on the command line: `5e-4`, `true`, `[0.9, 0.999]`; `empty` for None."""
    if value is None:
        return translate("empty")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, float):
        return _format_number(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(format_value, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {format_value(v)}" for k, v in value.items()) + "}"
    return str(value) if value != "" else "''"


def format_usual(usual: Range | tuple[Any, ...]) -> str:
    """`1e-4 to 2e-3` for a range, `8, 16 or 32` for a list of values."""
    if isinstance(usual, Range) and get_language() != "en":
        return _format_range(usual)
    if isinstance(usual, Range):
        return re.sub(r"\d[\d.e+-]*", lambda number: format_value(float(number[0])), str(usual))
    *most, last = map(format_value, usual)
    return f"{', '.join(most)} {translate('or')} {last}" if most else last


def _format_range(x: Range) -> str:
    """A range in a language that has its own order of words: `str(Range)` is English."""
    if x.low is not None and x.high is not None:
        words = translate("{low} to {high}").format(low=format_value(x.low), high=format_value(x.high))
        ends = [format_value(v) for v, is_open in ((x.low, x.open_low), (x.high, x.open_high)) if is_open]
        return words + (translate(" ({ends} excluded)").format(ends=f" {translate('and')} ".join(ends)) if ends else "")
    if x.low is not None:
        return translate("above {x}" if x.open_low else "at least {x}").format(x=format_value(x.low))
    if x.high is not None:
        return translate("below {x}" if x.open_high else "at most {x}").format(x=format_value(x.high))
    return translate("any number")


def format_kind(words: str) -> str:
    """`schema.describe_type` in the language spoken."""
    for head in ("list of ", "one of "):
        if words.startswith(head):
            rest = words.removeprefix(head)
            return translate(head.strip()) + " " + (format_kind(rest) if head == "list of " else rest)
    return translate(words)


def _format_number(x: float) -> str:
    """Small numbers as rates are spoken of: `5e-4`, not `0.0005`; whole ones without a point."""
    if abs(x) < 1e9 and x == int(x):
        return str(int(x))
    if abs(x) < 0.01:
        digits, _, exponent = f"{x:.3e}".partition("e")
        return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"
    return f"{x:g}"
