"""Text for a terminal: values in words, wrapped paragraphs, and columns. rich has tables, but takes 0.1 s to import."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Sequence
from enum import Enum
from typing import Any

from fulgurite.config.schema import Range
from fulgurite.explain.translations import current, fixed

NARROWEST, WIDEST = 40, 100
"""Columns: below, nothing can be wrapped well; above, lines are too long to read."""


def width() -> int:
    """The terminal's columns, within what reads well; 80 where the output is no terminal."""
    columns = shutil.get_terminal_size((80, 24)).columns if sys.stdout.isatty() else 80
    return max(NARROWEST, min(columns, WIDEST))


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


def paragraph(text: str, columns: int, indent: int = 0) -> str:
    """One paragraph, wrapped."""
    return fill(text, columns, " " * indent, " " * indent)


def fill(text: str, columns: int, head: str, rest: str) -> str:
    """`textwrap.fill`, which also breaks between the characters of Chinese, each two columns wide."""
    if text.isascii() or cells(text) == len(text):
        return textwrap.fill(text, columns, initial_indent=head, subsequent_indent=rest, **_WRAP)
    lines, line = [], head
    for atom in _ATOMS.findall(text):
        if cells(line) + cells(atom.rstrip()) > columns and line.strip() and atom[0] not in _CLOSING:
            lines.append(line.rstrip())
            line = rest + atom.lstrip()
        else:
            line += atom
    return "\n".join([*lines, line.rstrip()])


def cells(text: str) -> int:
    """Columns that a text takes in a terminal."""
    return len(text) + (0 if text.isascii() else sum(unicodedata.east_asian_width(c) in "WF" for c in text))


def padded(text: str, columns: int) -> str:
    """The text with blanks to its right, up to so many columns."""
    return text + " " * (columns - cells(text))


def labelled(rows: Sequence[tuple[str, str]], columns: int, indent: int = 2) -> str:
    """Rows of a label and a text that wraps beside it; each line of a text wraps on its own."""
    margin = indent + max((cells(label) for label, _ in rows), default=0) + 2
    lines = []
    for label, text in rows:
        head = padded(" " * indent + label, margin)
        for line in text.split("\n"):
            rest = " " * margin
            lines.append(fill(line, columns, head, rest) or head)
            head = " " * margin
    return "\n".join(line.rstrip() for line in lines)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell, under a heading."""
    widths = [max(cells(row[i]) for row in [head, *rows]) for i in range(len(head))]
    return "\n".join("  ".join(padded(c, w) for c, w in zip(row, widths, strict=True)).rstrip() for row in [head, *rows])


_ATOMS = re.compile(r"[\x21-\u02ff\u0370-\u2e7f]+ ?|\s|.")
"""A word of narrow characters with its blank, or one wide character."""
_CLOSING = "，。；：、）”！？》"
"""What never begins a line."""
_WRAP: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}


def _number(x: float) -> str:
    """Small numbers as rates are spoken of: `5e-4`, not `0.0005`; whole ones without a point."""
    if abs(x) < 1e9 and x == int(x):
        return str(int(x))
    if abs(x) < 0.01:
        digits, _, exponent = f"{x:.3e}".partition("e")
        return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"
    return f"{x:g}"
