"""Prints for a person. Foreign text (data keys, file names, configs, exceptions) never controls the terminal."""

from __future__ import annotations

import logging
import os
import re
import shutil
import sys
import warnings

from fulgurite.language.current import LANGUAGES, use_language
from fulgurite.language.message import UserMessage, message
from fulgurite.text.layout import count_cells, wrap

CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\U000e0000-\U000e007f]"
)
"""C0 and C1 except tab and newline; bidirectional controls, line separators, tags; lone surrogates."""
LONGEST = 2000
"""Maximum characters of a line. A longer one loses its middle: it begins with the place, and ends with the remedy."""
TAIL = 600
VERBOSE = "FULGURITE_VERBOSE"
"""The environment variable by which the processes of a run know that `train -v` was typed."""


def escape(text: str) -> str:
    """Replaces each control character by its code, such as `\\x1b`. Keeps tabs and newlines."""
    return CONTROL.sub(_spell_out, text.replace("\r\n", "\n"))


def shorten(line: str, most: int = LONGEST) -> str:
    """Shortens a line to `most` characters, plus a note of how many were left out of its middle."""
    if len(line) <= most:
        return line
    # Both ends are kept: an error begins with its place and ends with its remedy.
    tail = min(TAIL, most // 2)
    note = message("[... {count} characters left out ...]", count=len(line) - most)
    return f"{line[: most - tail]} {note} {line[len(line) - tail :]}"


def to_one_line(text: str) -> str:
    """Makes `text` exactly one line: shortened, with control characters and line breaks escaped."""
    return escape(shorten(text.strip())).replace("\n", "\\n")


def escape_lines(text: str) -> str:
    """Shortens each line of `text`, and escapes its control characters."""
    return "\n".join(escape(shorten(line)) for line in text.replace("\r\n", "\n").split("\n"))


def rank() -> int:
    """Returns the number of this process in its run, 0 if it is the only one."""
    number = os.environ.get("RANK", "")
    # The variable may be set by a launcher of another library, in any form.
    return int(number) if number.isdecimal() else 0


def say(text: str | UserMessage) -> None:
    """Prints `text` on stderr, from the first process of a run; prints nothing if `text` is empty.

    Lines wrap at the width of a terminal, between words.
    """
    if text and rank() == 0:
        print(wrap_lines(escape_lines(str(text)), measure_stderr()), file=sys.stderr, flush=True)


def say_error(text: object) -> None:
    """Prints the one line `error: ...` on stderr."""
    line = message("error: {text}", text=to_one_line(str(text)))
    print(wrap_lines(str(line), measure_stderr()), file=sys.stderr, flush=True)


def read_error(line: str) -> str | None:
    """Returns what follows `error: ` in a line that `say_error` printed in any language; None for another line."""
    for language in LANGUAGES:
        with use_language(language):
            prefix = str(message("error: {text}", text=""))
        if line.startswith(prefix):
            return line.removeprefix(prefix)
    return None


def measure_stderr() -> int | None:
    """Returns the width of the terminal that stderr is; None if it is none."""
    return shutil.get_terminal_size((80, 24)).columns if sys.stderr.isatty() else None


def wrap_lines(text: str, columns: int | None) -> str:
    """Returns `text` with each longer line wrapped between words; what follows is indented two columns more."""
    if columns is None:
        return text
    lines = []
    for line in text.split("\n"):
        indent = " " * (len(line) - len(line.lstrip()))
        # Lines that fit are kept as they are: tables and drawings have their own blanks.
        wide = count_cells(line) > columns
        lines.append(wrap(line.strip(), columns, indent, f"{indent}  ") if wide else line)
    return "\n".join(lines)


def set_verbose(verbose: bool) -> None:
    """Sets whether a run prints every value and its reason; the processes that this one starts inherit it."""
    if verbose:
        os.environ[VERBOSE] = "1"
    else:
        os.environ.pop(VERBOSE, None)


def is_verbose() -> bool:
    """Returns whether a run prints every value and its reason."""
    return os.environ.get(VERBOSE) == "1"


def show(text: str | UserMessage) -> None:
    """Prints a result (a table, a plan) on stdout."""
    print(escape_lines(str(text)))


class SafeRecord(logging.LogRecord):
    """A log record whose message is safe to print, whichever library wrote it and whichever handler prints it."""

    def getMessage(self) -> str:
        """Returns the formatted message, with lines shortened and control characters escaped."""
        return escape_lines(super().getMessage())


def guard_output() -> None:
    """Makes every log record and every warning of this process safe to print."""
    logging.setLogRecordFactory(SafeRecord)
    warnings.formatwarning = _format_warning


def _format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    return f"{to_one_line(filename)}:{lineno}: {category.__name__}: {escape_lines(str(message))}\n"


def _spell_out(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"
