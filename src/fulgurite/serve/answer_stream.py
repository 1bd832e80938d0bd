"""Turns generated tokens into pieces of text, calls and an end, as they are generated.

The pieces together are the text that decoding all tokens at once gives. transformers' TextStreamer decodes each line
apart, in which SentencePiece loses the blanks at its beginning; its server's streamer needs a tokenizer in Rust.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from typing import Any

from transformers.generation import BaseStreamer

DAMAGED = "\N{REPLACEMENT CHARACTER}"
"""What decoding gives for a part of a character."""


class CancelledAnswer(Exception):
    """Nobody reads the answer any more."""


class StopReached(Exception):
    """The answer has one of the texts at which the request wants it to end."""


class StopCutter:
    """Passes text on up to the first of some texts; holds back what may be the beginning of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops, self._held = stops, ""

    def feed(self, text: str) -> tuple[str, bool]:
        """Returns the text that is decided by now, and whether a stop was found; nothing may be fed after one."""
        self._held += text
        found = [at for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            return self._held[: min(found)], True
        # The longest end of the text with which a stop begins: the next piece may complete it.
        kept = max((n for stop in self._stops for n in range(len(stop)) if self._held.endswith(stop[:n])), default=0)
        decided, self._held = self._held[: len(self._held) - kept], self._held[len(self._held) - kept :]
        return decided, False

    def finish(self) -> str:
        """Returns what was held back."""
        return self._held


class AnswerStream(BaseStreamer):  # type: ignore[misc]
    """A streamer for transformers' generate: calls `take` with each piece of text.

    `decode` makes text of token ids. `total_tokens` counts what was generated, with the stop token.
    """

    def __init__(
        self, decode: Callable[[list[int]], str], stop_ids: Collection[int], stops: Sequence[str],
        take: Callable[[str], Any],
    ) -> None:
        self._decode, self._stop_ids, self._cutter, self._take = decode, frozenset(stop_ids), StopCutter(stops), take
        self._cancelled = threading.Event()
        self._ids: list[int] = []
        self._sent, self._context, self._known = "", 0, 0
        self._prompt_seen = False
        self.total_tokens = 0

    def cancel(self) -> None:
        """Ends the generation at its next token, from any thread."""
        self._cancelled.set()

    def check(self) -> None:
        """Raises CancelledAnswer if nobody reads the answer any more."""
        if self._cancelled.is_set():
            raise CancelledAnswer

    def put(self, value: Any) -> None:
        """Takes the next tokens; the first call has the prompt. Raises CancelledAnswer or StopReached."""
        self.check()
        if not self._prompt_seen:
            self._prompt_seen = True
            return
        new = value.flatten().tolist()
        self.total_tokens += len(new)
        self._ids += [token for token in new if token not in self._stop_ids]
        # As in vLLM and TGI: the tokens before the new ones are decoded with them, because they change their blanks.
        before = self._decode(self._ids[self._context : self._known])
        text = self._decode(self._ids[self._context :])
        # A replacement character at the end belongs to a character whose bytes have not all come yet.
        if len(text) > len(before) and text.startswith(before) and not text.endswith(DAMAGED):
            self._context, self._known = self._known, len(self._ids)
            self._send(text[len(before) :])

    def end(self) -> None:
        """Is called by generate; `finish` does the rest, also after a stop."""

    def finish(self) -> None:
        """Sends what is left of a whole answer. Raises StopReached."""
        whole = self._decode(self._ids)
        if whole.startswith(self._sent):
            rest = whole[len(self._sent) :]
        else:  # the tokenizer changes earlier text: what the last tokens add
            rest = self._decode(self._ids[self._context :])[len(self._decode(self._ids[self._context : self._known])) :]
        self._send(rest)
        self._pass_on(self._cutter.finish())

    def _send(self, text: str) -> None:
        self._sent += text
        decided, stopped = self._cutter.feed(text)
        self._pass_on(decided)
        if stopped:
            raise StopReached

    def _pass_on(self, text: str) -> None:
        if text:
            self._take(text)
