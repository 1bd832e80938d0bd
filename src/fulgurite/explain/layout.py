"""Text for a terminal: values in words, wrapped paragraphs, and columns. rich has tables, but takes 0.1 s to import."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from enum import Enum
from typing import Any

from fulgurite.schema import Range

NARROWEST, WIDEST = 40, 100
"""Columns: below, nothing can be wrapped well; above, lines are too long to read."""


def width() -> int:
    """The terminal's columns, within what reads well; 80 where the output is no terminal."""
    columns = shutil.get_terminal_size((80, 24)).columns if sys.stdout.isatty() else 80
    return max(NARROWEST, min(columns, WIDEST))


def value_words(value: Any) -> str:
    """A value as one writes it on the command line: `5e-4`, `true`, `[0.9, 0.999]`; `empty` for None."""
    if value is None:
        return "empty"
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
    if isinstance(usual, Range):
        return re.sub(r"\d[\d.e+-]*", lambda number: value_words(float(number[0])), str(usual))
    *most, last = map(value_words, usual)
    return f"{', '.join(most)} or {last}" if most else last


def paragraph(text: str, columns: int, indent: int = 0) -> str:
    """One paragraph, wrapped."""
    return textwrap.fill(text, columns, initial_indent=" " * indent, subsequent_indent=" " * indent, **_WRAP)


def labelled(rows: Sequence[tuple[str, str]], columns: int, indent: int = 2) -> str:
    """Rows of a label and a text that wraps beside it; each line of a text wraps on its own."""
    margin = indent + max((len(label) for label, _ in rows), default=0) + 2
    lines = []
    for label, text in rows:
        head = (" " * indent + label).ljust(margin)
        for line in text.split("\n"):
            rest = " " * margin
            lines.append(textwrap.fill(line, columns, initial_indent=head, subsequent_indent=rest, **_WRAP) or head)
            head = " " * margin
    return "\n".join(line.rstrip() for line in lines)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell, under a heading."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    return "\n".join("  ".join(f"{c:<{w}}" for c, w in zip(row, widths, strict=True)).rstrip() for row in [head, *rows])


_WRAP: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}


def _number(x: float) -> str:
    """Small numbers as rates are spoken of: `5e-4`, not `0.0005`; whole ones without a point."""
    if abs(x) < 1e9 and x == int(x):
        return str(int(x))
    if abs(x) < 0.01:
        digits, _, exponent = f"{x:.3e}".partition("e")
        return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"
    return f"{x:g}"
