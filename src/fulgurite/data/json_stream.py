"""A JSON array read one record at a time, so that a file of gigabytes needs the memory of its longest record.

ijson was looked at: it does this in C, but neither tells the line of a fault nor sees a key that stands twice; the
standard library's decoder does the parsing here, and this file only feeds it.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, TextIO

from fulgurite.data import lines
from fulgurite.files.json import MOST_DEPTH, count_depth

CHUNK = 1 << 20
BLANK = re.compile(r"\s*")
MARGIN = 16
"""Characters: a decoder that trips so near the end of what it has may only lack the rest."""


class NotJson(Exception):
    """The text is not JSON; `line` counts from 1."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"not JSON ({reason})")
        self.line, self.reason = line, str(self)


class Decoder:
    """json's decoder, which also tells of keys that stand twice in one object (json takes the last of them)."""

    def __init__(self) -> None:
        self.twin: str | None = None
        self._json = json.JSONDecoder(object_pairs_hook=self._made)

    def _made(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            self.twin = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        return made

    def decode(self, text: str, at: int) -> tuple[Any, int]:
        """The value that starts at `at`, and where it ends; `twin` is set anew. Raises ValueError."""
        self.twin = None
        try:
            value, end = self._json.raw_decode(text, at)
        except RecursionError:
            raise ValueError(f"nested more than {MOST_DEPTH} deep") from None
        if text.count("[", at, end) + text.count("{", at, end) > MOST_DEPTH and count_depth(value) > MOST_DEPTH:
            raise ValueError(f"nested more than {MOST_DEPTH} deep")  # whatever reads the record further may recurse
        return value, end


class _Text:
    """The part of a stream that is not yet consumed: `text` from `at` on."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.text, self.at, self.ended = stream, "", 0, False
        self._line, self._counted = 1, 0

    def more(self) -> bool:
        """Drop what is consumed and read on, at least as much as is held; False at the end."""
        self.line_at(self.at)
        self.text, self.at, self._counted = self.text[self.at :], 0, 0
        piece = self.stream.read(max(CHUNK, len(self.text)))
        self.text += piece
        self.ended = not piece
        return not self.ended

    def peek(self) -> str:
        """The next character that is not blank, or '' at the end."""
        blank = 0
        while True:
            begin, self.at = self.at, BLANK.match(self.text, self.at).end()  # type: ignore[union-attr]
            if self.at < len(self.text):
                return self.text[self.at]
            blank += self.at - begin
            if blank > lines.MOST_BLANK:
                raise self.wrong(f"more than {lines.MOST_BLANK:,} blank characters in a row")
            if not self.more():
                return ""

    def line_at(self, at: int) -> int:
        """The line of a place in `text`, never before one asked for earlier."""
        self._line += self.text.count("\n", self._counted, at)
        self._counted = max(self._counted, at)
        return self._line

    def wrong(self, reason: str) -> NotJson:
        """What is wrong at `at`."""
        return NotJson(self.line_at(self.at), reason)


def read_items(stream: TextIO) -> Iterator[tuple[int, Any, str | None]]:
    """Line, value and twin key of each item of the array that the stream holds. Raises NotJson at the first fault."""
    text, decoder = _Text(stream), Decoder()
    if text.peek() != "[":
        raise text.wrong("no list begins here")
    text.at += 1
    mark = text.peek()
    while mark != "]":
        line, value = text.line_at(text.at), _decode_value(text, decoder)
        yield line, value, decoder.twin
        mark = text.peek()
        if mark not in ("]", ","):
            raise text.wrong(f"{mark!r} stands where , or ] is due" if mark else "the list is cut off")
        if mark == ",":
            text.at += 1
            if text.peek() == "]":
                raise text.wrong("a comma before the closing ]")
    text.at += 1
    if text.peek():
        raise text.wrong("more follows after the closing ]")


def _decode_value(text: _Text, decoder: Decoder) -> Any:
    """Decode the value at `text.at`, reading on while it may only be cut by the end of what is held."""
    while True:
        try:
            value, end = decoder.decode(text.text, text.at)
            size = end - text.at
            if size > lines.MOST_RECORD:
                raise text.wrong(f"a record {lines.describe_too_long()}")
            if end < len(text.text) or not text.more():  # a number at the very end of what is held may go on
                text.at += size
                return value
        except json.JSONDecodeError as error:
            if len(text.text) - text.at > lines.MOST_RECORD:
                raise text.wrong(f"a record {lines.describe_too_long()}") from None
            cut = error.msg.startswith("Unterminated string") or error.pos >= len(text.text) - MARGIN
            if not cut or not text.more():
                raise NotJson(text.line_at(min(error.pos, len(text.text))), error.msg) from None
        except ValueError as error:
            raise text.wrong(str(error)) from None
