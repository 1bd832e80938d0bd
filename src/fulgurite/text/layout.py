"""Lays text out for a terminal: wrapped paragraphs and columns. rich has tables, but takes 0.1 s to import."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

NARROWEST, WIDEST = 40, 100
"""Limits in columns: text cannot be wrapped well below the first, and is hard to read above the second."""


def measure_width() -> int:
    """Returns the width of the terminal, limited to what reads well; 80 if the output is no terminal."""
    columns = shutil.get_terminal_size((80, 24)).columns if sys.stdout.isatty() else 80
    return max(NARROWEST, min(columns, WIDEST))


def wrap_paragraph(text: str, columns: int, indent: int = 0) -> str:
    """Wraps one paragraph, indented."""
    return wrap(text, columns, " " * indent, " " * indent)


def wrap(text: str, columns: int, head: str, rest: str) -> str:
    """Works as `textwrap.fill`, and also breaks between Chinese characters, which are two columns wide."""
    # Without wide characters textwrap counts the columns correctly.
    if text.isascii() or count_cells(text) == len(text):
        return textwrap.fill(text, columns, initial_indent=head, subsequent_indent=rest, **_WRAP)
    lines, line, atoms = [], head, _ATOMS.findall(text)
    for place, atom in enumerate(atoms):
        # A line may break before every wide character, but never before a closing mark: the character before it goes
        # to the next line as well.
        closing = "".join(takewhile(_CLOSING.__contains__, atoms[place + 1 :]))
        wanted = count_cells(line) + count_cells(atom.rstrip() + closing)
        if wanted > columns and line.strip() and atom[0] not in _CLOSING:
            lines.append(line.rstrip())
            line = rest + atom.lstrip()
        else:
            line += atom
    return "\n".join([*lines, line.rstrip()])


def count_cells(text: str) -> int:
    """Returns how many columns a text takes in a terminal."""
    return len(text) + (0 if text.isascii() else sum(unicodedata.east_asian_width(c) in "WF" for c in text))


def pad(text: str, columns: int) -> str:
    """Adds spaces on the right, up to a width of `columns`."""
    return text + " " * (columns - count_cells(text))


def format_labels(rows: Sequence[tuple[str, str]], columns: int, indent: int = 2) -> str:
    """Formats rows of a label and a text, which wraps beside its label; each line of a text wraps on its own.

    If the labels leave less than half of the width, each text begins below its label.
    """
    margin = indent + max((count_cells(label) for label, _ in rows), default=0) + 2
    is_below = margin > columns // 2
    margin = indent + 4 if is_below else margin
    lines = []
    for label, text in rows:
        head = pad(" " * indent + label, margin)
        if is_below:
            lines.append(head)
            head = " " * margin
        for line in text.split("\n"):
            rest = " " * margin
            # An empty text wraps to nothing, but its label has to be printed.
            lines.append(wrap(line, columns, head, rest) or head)
            head = " " * margin
    return "\n".join(line.rstrip() for line in lines)


def format_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Formats a table with a heading; each column is as wide as its widest cell."""
    widths = [max(count_cells(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = []
    for row in [head, *rows]:
        cells = [pad(cell, width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def format_blocks(head: Sequence[str], rows: Sequence[Sequence[str]], columns: int) -> str:
    """Formats the rows of a table that is too wide: the first cell, and below it each other one after its heading. An
    empty cell, "-", is left out."""
    lines = []
    for first, *rest in rows:
        lines.append(first)
        line = ""
        # A heading and its cell stay on one line, which wrapping at spaces would not keep.
        for item in (f"{name} {cell}" for name, cell in zip(head[1:], rest, strict=True) if cell != "-"):
            if line and count_cells(line) + 2 + count_cells(item) > columns:
                lines.append(line)
                line = ""
            line += "  " + item
        lines.append(line)
    return "\n".join(line for line in lines if line)


_ATOMS = re.compile(r"[\x21-\u02ff\u0370-\u2e7f]+ ?|\s|.")
"""A word of narrow characters with the space after it, or one wide character."""
_CLOSING = "，。；：、）”！？》"
"""Punctuation that never begins a line."""
_WRAP: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}
