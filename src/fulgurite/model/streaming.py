"""Prints generated text on a terminal as it is generated, with control characters replaced."""

from __future__ import annotations

from typing import Any, TextIO

from transformers import TextStreamer

from fulgurite.text.console import CONTROL


def printable(text: str) -> str:
    """Returns `text` with each control character replaced by the replacement character."""
    return CONTROL.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


class Stream(TextStreamer):  # type: ignore[misc]
    """transformers' TextStreamer, which waits for whole words and characters, on `out`; `text` is the text so far."""

    def __init__(self, tokenizer: Any, out: TextIO) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self._out = out
        self.text = ""

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Writes a piece of text, with control characters replaced."""
        piece = text if self.text else text.lstrip()
        self.text += piece
        self._out.write(printable(piece))
        self._out.flush()
