"""A model's words on a terminal, as they are generated, and without power over it."""

from __future__ import annotations

from typing import Any, TextIO

from transformers import TextStreamer

from fulgurite.text.console import CONTROL


def printable(text: str) -> str:
    """`text` with each control character shown as the replacement sign."""
    return CONTROL.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


class Stream(TextStreamer):  # type: ignore[misc]
    """transformers' TextStreamer, which waits for whole words and characters, on `out`; `text` is what was said."""

    def __init__(self, tokenizer: Any, out: TextIO) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self._out = out
        self.text = ""

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Write a piece; control characters are shown, not obeyed."""
        piece = text if self.text else text.lstrip()
        self.text += piece
        self._out.write(printable(piece))
        self._out.flush()
