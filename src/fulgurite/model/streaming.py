"""Prints generated text on a terminal as it is generated, with control characters replaced."""

from __future__ import annotations

from typing import Any, TextIO

from transformers import TextStreamer

from fulgurite.data.call_parser import CallParser, DamagedCall, Piece
from fulgurite.data.tool_calls import format_call
from fulgurite.text.console import CONTROL


def printable(text: str) -> str:
    """Returns `text` with each control character replaced by the replacement character."""
    return CONTROL.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


class Stream(TextStreamer):  # type: ignore[misc]
    """transformers' TextStreamer, which waits for whole words and characters, on `out`; `text` is the text so far.

    With a parser of calls, each call is written on a line of its own as soon as it is complete, in a readable form;
    `text` then has the special tokens, and `damaged` the calls that cannot be read, which are written as they are.
    """

    def __init__(self, tokenizer: Any, out: TextIO, parser: CallParser | None = None) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=parser is None)
        self._out, self._parser = out, parser
        self._ended = ""
        self.text = ""
        self.damaged: list[DamagedCall] = []

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Writes a piece of text, with control characters replaced."""
        piece = text if self.text else text.lstrip()
        self.text += piece
        pieces: list[Piece] = [piece]
        if self._parser is not None:
            pieces = self._parser.feed(piece) + (self._parser.finish() if stream_end else [])
        for part in pieces:
            if isinstance(part, str):
                self._write_text(part)
            elif isinstance(part, DamagedCall):
                self.damaged.append(part)
                self._write_call(part.text)
            else:
                self._write_call(f"  {format_call(part.to_dict())}")
        self._out.flush()

    def _write_text(self, text: str) -> None:
        # Text after a call begins a new line.
        text = f"\n{text.lstrip()}" if self._ended == "call" and text.strip() else text
        text = text if self._ended else text.lstrip()
        if text:
            self._out.write(printable(text))
            self._ended = "line" if text.endswith("\n") else "text"

    def _write_call(self, text: str) -> None:
        self._out.write(printable(f"\n{text}" if self._ended in ("text", "call") else text))
        self._ended = "call"
