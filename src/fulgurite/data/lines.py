"""Lines of a text stream in bounded memory and time: a line of gigabytes and endless blanks are one error each.

The size of the file is no bound: 2 MB of gzip can unpack to a line of 2 GB.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TextIO

from fulgurite.language.message import UserMessage, message

MOST_RECORD = 8 << 20
"""Maximum characters of a record, some two million tokens. Tokenizing takes 200 bytes per character (measured)."""
MOST_LINE = 256 << 20
"""Maximum characters of a line; a longer one is an error for the file. A line that is longer than a record, but not
than this, is skipped and counted as a bad record."""
MOST_BLANK = 16 << 20
"""Maximum blank characters in a row; no program writes that many."""
MOST_BLANK_LINES = 1 << 20
"""Maximum blank lines in a row of a CSV file. They cannot be skipped by the chunk, because a quoted cell may have
some."""
CHUNK = 1 << 18


class Endless(Exception):
    """A line, a record or a sequence of blanks is too long, so that the rest of the file cannot be read. `line` counts
    from 1."""

    def __init__(self, line: int, reason: str | UserMessage, /, **facts: Any) -> None:
        super().__init__(reason if isinstance(reason, UserMessage) else UserMessage(reason, facts))
        self.line = line


def describe_too_long() -> UserMessage:
    """Returns the reason for a record that is longer than MOST_RECORD."""
    return message("longer than {most:,} characters, the maximum of one record; split it", most=MOST_RECORD)


def read_lines(stream: TextIO) -> Iterator[tuple[int, str | None]]:
    """Yields the number and the text of each line that is not blank; None instead of a text longer than a record.

    Raises Endless. Blank parts of the stream are counted by the chunk, which takes a tenth of the time.
    """
    number, blank, held, length = 1, 0, [""], 0
    # By chunks and not by readline(), which would hold a line of any length.
    while chunk := stream.read(CHUNK):
        if not length and chunk.isspace():
            blank = add_blank(blank, len(chunk), number)
            number += chunk.count("\n")
            # The next line may begin in this chunk.
            held = [chunk[chunk.rfind("\n") + 1 :]]
            continue
        blank = 0
        # `first` ends the line that is being held; the last part begins a new one.
        first, *others = chunk.split("\n")
        length = _hold(held, length, first, number)
        if not others:
            continue
        yield from _finish_line(number, held, length)
        for whole in others[:-1]:
            number += 1
            if whole and not whole.isspace():
                yield number, whole if len(whole) <= MOST_RECORD else None
        # Blanks at the beginning of a line are not held, so that they do not count as a long line.
        number, held = number + 1, []
        length = _hold(held, 0, others[-1], number)
        if others[-1].isspace():
            length = 0
    yield from _finish_line(number, held, length)


def read_csv_lines(stream: TextIO, held: list[int]) -> Iterator[str]:
    """Yields each line with its ending.

    Raises Endless if a record becomes too long; the reader resets `held[0]`, its number of characters.
    """
    # readline returns at most MOST_RECORD + 1 characters, so a longer line is never held.
    number = blank = blank_lines = 0
    while line := stream.readline(MOST_RECORD + 1):
        number += 1
        held[0] += len(line)
        if held[0] > MOST_RECORD:
            raise Endless(number, describe_too_long())
        blank = add_blank(blank, len(line), number) if line.isspace() else 0
        blank_lines = blank_lines + 1 if blank else 0
        if blank_lines > MOST_BLANK_LINES:
            raise Endless(
                number, "more than {most:,} blank lines in a row; the file may be damaged", most=MOST_BLANK_LINES
            )
        yield line


def add_blank(blank: int, more: int, number: int) -> int:
    """Adds to the number of blank characters in a row. Raises Endless."""
    if blank + more > MOST_BLANK:
        raise Endless(number, "more than {most:,} blank characters in a row; the file may be damaged", most=MOST_BLANK)
    return blank + more


def _hold(held: list[str], length: int, part: str, number: int) -> int:
    """Appends a part of a line unless the line is longer than a record, and returns the length of the line."""
    length += len(part)
    if length > MOST_LINE:
        raise Endless(number, "a line {too_long}", too_long=describe_too_long())
    if length > MOST_RECORD:
        # The text of an overlong line is not needed: only its length is still counted.
        held.clear()
    else:
        held.append(part)
    return length


def _finish_line(number: int, held: list[str], length: int) -> Iterator[tuple[int, str | None]]:
    if length > MOST_RECORD:
        yield number, None
    elif (text := "".join(held)) and not text.isspace():
        yield number, text
