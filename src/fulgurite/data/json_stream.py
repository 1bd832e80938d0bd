"""A JSON array read one record at a time, so that a file of gigabytes needs the memory of its longest record.

ijson does this in C, but it neither reports the line of an error nor finds repeated keys. Here the standard library's
decoder parses, and this file supplies the text.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, TextIO

from fulgurite.data import lines
from fulgurite.files.json import MOST_DEPTH, count_depth
from fulgurite.language.library_errors import translate_json_fault
from fulgurite.language.message import UserMessage, message

CHUNK = 1 << 20
BLANK = re.compile(r"\s*")
MARGIN = 16
"""If the decoder fails within so many characters of the end of the text it has, it may only need more text."""


class NotJson(Exception):
    """The text is not JSON; `line` counts from 1."""

    def __init__(self, line: int, reason: str | UserMessage) -> None:
        self.line = line
        self.reason = message("not JSON ({reason})", reason=reason)
        super().__init__(self.reason)


class Decoder:
    """The decoder of json, with the first repeated key of an object in `twin` (json uses the last value of such a
    key)."""

    def __init__(self) -> None:
        self.twin: str | None = None
        self._json = json.JSONDecoder(object_pairs_hook=self._made)

    def _made(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        # The hook sees repeated keys, of which a plain dict would keep the last silently.
        made = dict(pairs)
        if len(made) != len(pairs):
            self.twin = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        return made

    def decode(self, text: str, at: int) -> tuple[Any, int]:
        """Returns the value that starts at `at`, and the position of its end; sets `twin`. Raises ValueError."""
        self.twin = None
        try:
            value, end = self._json.raw_decode(text, at)
        except RecursionError:
            raise ValueError(message("nested more than {most} levels deep", most=MOST_DEPTH)) from None
        # Later code that reads the record may recurse, so deep values are refused here.
        if text.count("[", at, end) + text.count("{", at, end) > MOST_DEPTH and count_depth(value) > MOST_DEPTH:
            raise ValueError(message("nested more than {most} levels deep", most=MOST_DEPTH))
        return value, end


class _Text:
    """The part of a stream that is not yet consumed: `text` from `at` on."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.text, self.at, self.ended = stream, "", 0, False
        self._line, self._counted = 1, 0

    def more(self) -> bool:
        """Drops the consumed text and reads at least as much as is left; returns False at the end."""
        self.line_at(self.at)
        # The line is counted first: the text that is dropped holds its line breaks.
        self.text, self.at, self._counted = self.text[self.at :], 0, 0
        # Reading twice as much each time keeps the time linear for a long record.
        piece = self.stream.read(max(CHUNK, len(self.text)))
        self.text += piece
        self.ended = not piece
        return not self.ended

    def peek(self) -> str:
        """Returns the next character that is not blank, or '' at the end."""
        blank = 0
        while True:
            begin, self.at = self.at, BLANK.match(self.text, self.at).end()  # type: ignore[union-attr]
            if self.at < len(self.text):
                return self.text[self.at]
            blank += self.at - begin
            if blank > lines.MOST_BLANK:
                raise self.wrong(message("more than {most:,} blank characters in a row", most=lines.MOST_BLANK))
            if not self.more():
                return ""

    def line_at(self, at: int) -> int:
        """Returns the line of a position in `text`; the positions of later calls must not decrease."""
        self._line += self.text.count("\n", self._counted, at)
        self._counted = max(self._counted, at)
        return self._line

    def wrong(self, reason: str | UserMessage) -> NotJson:
        """Makes the error for the position `at`."""
        return NotJson(self.line_at(self.at), reason)


def read_items(stream: TextIO) -> Iterator[tuple[int, Any, str | None]]:
    """Yields line, value and repeated key of each item of the array in the stream. Raises NotJson at the first error.
    """
    text, decoder = _Text(stream), Decoder()
    if text.peek() != "[":
        raise text.wrong(message("no list begins here"))
    text.at += 1
    mark = text.peek()
    while mark != "]":
        line, value = text.line_at(text.at), _decode_value(text, decoder)
        yield line, value, decoder.twin
        mark = text.peek()
        if mark not in ("]", ","):
            if not mark:
                raise text.wrong(message("the list has no end"))
            raise text.wrong(message("expected , or ], found {mark!r}", mark=mark))
        if mark == ",":
            text.at += 1
            if text.peek() == "]":
                raise text.wrong(message("a comma before the closing ]"))
    text.at += 1
    if text.peek():
        raise text.wrong(message("more text follows after the closing ]"))


def _decode_value(text: _Text, decoder: Decoder) -> Any:
    """Decodes the value at `text.at`; reads more text as long as the value may only be incomplete."""
    while True:
        try:
            value, end = decoder.decode(text.text, text.at)
            size = end - text.at
            if size > lines.MOST_RECORD:
                raise text.wrong(message("a record {too_long}", too_long=lines.describe_too_long()))
            # A number at the very end of the text may continue in the next piece.
            if end < len(text.text) or not text.more():
                text.at += size
                return value
        except json.JSONDecodeError as error:
            if len(text.text) - text.at > lines.MOST_RECORD:
                raise text.wrong(message("a record {too_long}", too_long=lines.describe_too_long())) from None
            # An error near the end may disappear with more text; any other is final.
            cut = error.msg.startswith("Unterminated string") or error.pos >= len(text.text) - MARGIN
            if not cut or not text.more():
                raise NotJson(text.line_at(min(error.pos, len(text.text))), translate_json_fault(error.msg)) from None
        except ValueError as error:
            raise text.wrong(error.args[0]) from None
