"""A conversion as text for the terminal, and as JSON."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from fulgurite.convert.conversion import Conversion, Line, Verdict
from fulgurite.language.message import UserMessage, message
from fulgurite.plan.diagnostic import Trouble
from fulgurite.text.layout import format_labels, measure_width, wrap_paragraph

WIDEST_VALUE = 24
"""Characters of a value before it is cut: a list of paths would leave no room for the words."""


def format_conversion(path: str, conversion: Conversion, troubles: Sequence[Trouble]) -> str:
    """Returns a conversion as text: a line for each setting, what the rules find, and the command."""
    columns = measure_width()
    owner = conversion.owner
    sections: list[tuple[UserMessage, str]] = []
    for title, verdict, defaults in (
        (message("TAKEN"), Verdict.taken, False),
        (message("NOT IN THE FILE: the default of {owner}", owner=owner), Verdict.taken, True),
        (message("NOTHING TO SET"), Verdict.unneeded, False),
        (message("WITHOUT A COUNTERPART"), Verdict.refused, False),
    ):
        if lines := conversion.select(verdict, defaults=defaults):
            sections.append((title, format_labels([_format_line(line) for line in lines], columns)))
    if troubles:
        found = [wrap_paragraph(_format_trouble(trouble), columns, 2) for trouble in troubles]
        sections.append((message("WHAT THE RULES FIND"), "\n".join(found)))
    sections.append((message("THE RUN (`fulgurite plan` with the same words checks it with its data)"),
                     format_command(conversion.words, columns)))
    head = message("{path}, a file of {owner}, in our words", path=path, owner=owner)
    return "\n\n".join([str(head), *(f"{title}\n{body}" for title, body in sections)])


def format_command(words: Sequence[str], columns: int) -> str:
    """Returns the command line, wrapped so that it can be pasted into a shell."""
    lines = ["  fulgurite train"]
    for word in map(shlex.quote, words):
        if len(lines[-1]) + len(word) + 3 > columns and lines[-1].strip():
            lines[-1] += " \\"
            lines.append(f"    {word}")
        else:
            lines[-1] += f" {word}"
    return "\n".join(lines)


def convert_to_json(path: str, conversion: Conversion, troubles: Sequence[Trouble]) -> dict[str, Any]:
    """Returns a conversion for programs, in English whatever language is in use."""
    return {
        "file": path, "owner": conversion.owner, "words": conversion.words,
        "settings": [line.to_json() for line in conversion.lines],
        "troubles": [trouble.to_json() for trouble in troubles],
    }


def _format_line(line: Line) -> tuple[str, str]:
    value = line.value if len(line.value) <= WIDEST_VALUE else f"{line.value[: WIDEST_VALUE - 1]}…"
    text = f"{value} → {' '.join(line.words)}" if line.words else value
    return line.key, "\n".join(part for part in (text, str(line.reason)) if part)


def _format_trouble(trouble: Trouble) -> str:
    remedy = f" → {trouble.remedy}" if trouble.remedy else ""
    return f"{trouble.sentence}{remedy}"
