"""What a run prints for its person. Foreign text (data keys, file names, configs, exceptions) never controls the terminal."""

from __future__ import annotations

import logging
import os
import re
import sys
import warnings

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\U000e0000-\U000e007f]")
"""C0 and C1 but tab and newline; what reorders, breaks or hides text (bidirectional controls, separators, tags); half characters."""
LONGEST = 2000
"""The most characters of a line. What is longer loses its middle: the place is at the front, and the remedy at the end."""
TAIL = 600


def escaped(text: str) -> str:
    """`text` with each control character written out as `\\x1b`. Tabs and newlines stay."""
    return CONTROL.sub(_written_out, text.replace("\r\n", "\n"))


def bounded(line: str, most: int = LONGEST) -> str:
    """A line of at most `most` characters and a note of how many were left out of its middle."""
    if len(line) <= most:
        return line
    tail = min(TAIL, most // 2)
    return f"{line[: most - tail]} [... {len(line) - most} characters left out ...] {line[len(line) - tail :]}"


def one_line(text: str) -> str:
    """`text` as exactly one line: bounded, control characters and line breaks written out."""
    return escaped(bounded(text.strip())).replace("\n", "\\n")


def lines(text: str) -> str:
    """`text` line by line: bounded, control characters written out."""
    return "\n".join(escaped(bounded(line)) for line in text.replace("\r\n", "\n").split("\n"))


def rank() -> int:
    """This process's number, 0 where it is alone."""
    number = os.environ.get("RANK", "")
    return int(number) if number.isdecimal() else 0


def say(text: str) -> None:
    """Print `text` on stderr from the first process of a run; nothing if there is no text."""
    if text and rank() == 0:
        print(lines(text), file=sys.stderr, flush=True)


def say_error(text: object) -> None:
    """Print the one line `error: ...` on stderr."""
    print(f"error: {one_line(str(text))}", file=sys.stderr, flush=True)


def show(text: str) -> None:
    """Print an answer (a table, a plan) on stdout."""
    print(lines(text))


class SafeRecord(logging.LogRecord):
    """A log record whose message is safe to print, whichever library wrote it and whichever handler prints it."""

    def getMessage(self) -> str:
        """The formatted message: bounded lines, control characters written out."""
        return lines(super().getMessage())


def guard_output() -> None:
    """Make every log record and every warning of this process safe to print."""
    logging.setLogRecordFactory(SafeRecord)
    warnings.formatwarning = _warning


def _warning(message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None) -> str:
    return f"{one_line(filename)}:{lineno}: {category.__name__}: {lines(str(message))}\n"


def _written_out(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"
