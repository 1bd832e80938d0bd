"""Lines of a text stream in bounded memory and time: a line of gigabytes and endless blanks each end in one sentence.

The size on disk bounds neither: 2 MB of gzip unpack to a line of 2 GB.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO

MOST_RECORD = 8 << 20
"""Characters of the longest record that is read, some two million tokens.

Tokenising takes 200 bytes a character (measured).
"""
MOST_LINE = 256 << 20
"""Characters after which a line is given up.

A shorter one that is longer than a record is skipped and counted as a bad record.
"""
MOST_BLANK = 16 << 20
"""Blank characters in a row after which a file is given up; no writer makes them."""
MOST_BLANK_LINES = 1 << 20
"""Blank lines in a row after which a CSV file is given up: they cannot be skipped by the chunk, since a quoted cell may
hold some.
"""
CHUNK = 1 << 18

TOO_LONG = "longer than {most:,} characters, which is the most that is read as one record; split it"


class Endless(Exception):
    """A line, a record or a run of blanks that is too long for the rest of the file to be read; `line` counts from 1.
    """

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line


def describe_too_long() -> str:
    """Returns the reason for a record that is longer than MOST_RECORD."""
    return TOO_LONG.format(most=MOST_RECORD)


def read_lines(stream: TextIO) -> Iterator[tuple[int, str | None]]:
    """Yields the number and the text of each line that is not blank, None in place of one that is longer than a record.

    Raises Endless. A blank part of the stream is counted by the chunk, which takes a tenth of the time.
    """
    number, blank, held, length = 1, 0, [""], 0
    while chunk := stream.read(CHUNK):
        if not length and chunk.isspace():
            blank = add_blank(blank, len(chunk), number)
            number += chunk.count("\n")
            held = [chunk[chunk.rfind("\n") + 1 :]]  # the beginning of the next line
            continue
        blank = 0
        first, *others = chunk.split("\n")
        length = _hold(held, length, first, number)
        if not others:
            continue
        yield from _finish_line(number, held, length)
        for whole in others[:-1]:
            number += 1
            if whole and not whole.isspace():
                yield number, whole if len(whole) <= MOST_RECORD else None
        number, held = number + 1, []
        length = _hold(held, 0, others[-1], number)
        if others[-1].isspace():
            length = 0
    yield from _finish_line(number, held, length)


def read_csv_lines(stream: TextIO, held: list[int]) -> Iterator[str]:
    """Yields each line with its ending.

    Raises Endless if a record grows too long; `held[0]`, its characters, is reset by the reader.
    """
    number = blank = blank_lines = 0
    while line := stream.readline(MOST_RECORD + 1):
        number += 1
        held[0] += len(line)
        if held[0] > MOST_RECORD:
            raise Endless(number, describe_too_long())
        blank = add_blank(blank, len(line), number) if line.isspace() else 0
        blank_lines = blank_lines + 1 if blank else 0
        if blank_lines > MOST_BLANK_LINES:
            raise Endless(number, f"more than {MOST_BLANK_LINES:,} blank lines in a row; the file may be damaged")
        yield line


def add_blank(blank: int, more: int, number: int) -> int:
    """Adds to a run of blank characters. Raises Endless."""
    if blank + more > MOST_BLANK:
        raise Endless(number, f"more than {MOST_BLANK:,} blank characters in a row; the file may be damaged")
    return blank + more


def _hold(held: list[str], length: int, part: str, number: int) -> int:
    """Appends a part of a line while it may still be a record, and returns the length of the line."""
    length += len(part)
    if length > MOST_LINE:
        raise Endless(number, f"a line {describe_too_long()}")
    if length > MOST_RECORD:
        held.clear()
    else:
        held.append(part)
    return length


def _finish_line(number: int, held: list[str], length: int) -> Iterator[tuple[int, str | None]]:
    if length > MOST_RECORD:
        yield number, None
    elif (text := "".join(held)) and not text.isspace():
        yield number, text
