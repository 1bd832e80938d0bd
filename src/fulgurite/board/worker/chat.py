"""Answers as a trained run: `python -m fulgurite.board.worker.chat RUN`, JSON lines in and out.

In:  {"id": 1, "messages": [{"role": "user", "content": "..."}], "max_new_tokens": 512, "lang": "en"}, {"cancel": 1}
Out: {"ready": true}, {"id": 1, "text": "..."}, {"id": 1, "done": true, "stopped": true, "note": "", "text": "..."},
{"id": 1, "error": "..."}; {"error": "..."} before the end if the run cannot be loaded. The text at the end is the whole
answer as the model wrote it; in the pieces before, control characters are replaced.

The answers are greedy, as with `fulgurite chat temperature=0`.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any, TextIO

from fulgurite.config.chat_arguments import ChatConfig
from fulgurite.config.guard import Allowed
from fulgurite.errors import FulguriteError, is_shortage
from fulgurite.foreign_code import describe_error
from fulgurite.language.current import LANGUAGES, use_language
from fulgurite.language.message import UserMessage, message
from fulgurite.serve.chat import Partner, load_partner, make_room

IDLE = 600.0
"""Seconds without a question after which the process ends, and with it the memory that the model takes."""


class Cancelled(Exception):
    """Nobody reads the answer any more."""


class PieceWriter:
    """What a stream of generated text writes to: each piece becomes a line for the server."""

    def __init__(
        self, write: Callable[[dict[str, Any]], None], question: int, is_cancelled: Callable[[], bool]
    ) -> None:
        self._write, self._question, self._is_cancelled = write, question, is_cancelled

    def write(self, piece: str) -> None:
        """Sends a piece. Raises Cancelled, which ends the generation."""
        if self._is_cancelled():
            raise Cancelled
        if piece:
            self._write({"id": self._question, "text": piece})

    def flush(self) -> None:
        """Does nothing: each line is sent at once."""


class ChatWorker:
    """Answers one question at a time with a loaded run."""

    def __init__(self, partner: Partner, write: Callable[[dict[str, Any]], None]) -> None:
        self._partner, self._write = partner, write
        self.cancelled: set[int] = set()

    def answer(self, asked: dict[str, Any]) -> None:
        """Streams the answer to a conversation; an error is one sentence."""
        question = int(asked["id"])
        with use_language(asked["lang"] if asked.get("lang") in LANGUAGES else "en"):
            try:
                self._write({"id": question, "done": True} | self._generate(question, asked))
            except Cancelled:
                self._write({"id": question, "done": True, "stopped": False, "note": "", "text": ""})
            except Exception as error:
                self._write({"id": question, "error": describe_fault(error)})

    def _generate(self, question: int, asked: dict[str, Any]) -> dict[str, Any]:
        from fulgurite.model.generate import generate
        from fulgurite.model.streaming import Stream

        partner, most = self._partner, int(asked.get("max_new_tokens") or ChatConfig().max_new_tokens)
        system, turns, last = self._read_messages(asked["messages"])
        fits, note = make_room(partner, turns, lambda: [*system, *turns, last])
        if not fits:
            return {"stopped": True, "note": str(note), "text": ""}
        out: Any = PieceWriter(self._write, question, lambda: question in self.cancelled)
        done = generate(
            partner.model, partner.tokenizer, partner.template, [*system, *turns, last], max_new_tokens=most,
            temperature=0.0, streamer=Stream(partner.tokenizer, out), context=partner.context(), length=partner.limit,
        )
        if not done.stopped and not note:
            note = self._describe_cut(done.tokens, most)
        return {"stopped": done.stopped, "note": str(note), "text": done.text}

    def _describe_cut(self, tokens: int, most: int) -> UserMessage:
        if tokens >= most:
            return message("cut at max_new_tokens={limit}", limit=most)
        return message("cut at the {limit} tokens that the model can read", limit=self._partner.limit)

    def _read_messages(self, found: list[dict[str, str]]) -> tuple[list[Any], list[Any], Any]:
        """Returns the system message, the earlier turns, and the question."""
        from fulgurite.data.example import Message

        system = [Message("system", m["content"]) for m in found[:1] if m["role"] == "system"]
        turns = [
            self._partner.template.answer(m["content"]) if m["role"] == "assistant" else Message("user", m["content"])
            for m in found[len(system):]
        ]
        return system, turns[:-1], turns[-1]


def describe_fault(error: Exception) -> str:
    """Returns any error as one sentence."""
    if isinstance(error, FulguriteError):
        return str(error)
    if is_shortage(error):
        return str(message("Out of memory: wait until the training has ended, or close other programs."))
    return str(message("The answer failed: {error}", error=describe_error(error)))


def read_requests(source: Iterable[str], asked: queue.Queue[dict[str, Any]], cancelled: set[int]) -> None:
    """Puts questions into a queue, and notes at once which are cancelled; ends with the server, whose pipe it is."""
    for line in source:
        found = json.loads(line)
        if "cancel" in found:
            cancelled.add(int(found["cancel"]))
        else:
            asked.put(found)


def _follow_server(source: TextIO, asked: queue.Queue[dict[str, Any]], cancelled: set[int]) -> None:
    try:
        read_requests(source, asked, cancelled)
    finally:
        os._exit(0)  # the server is gone; an answer that is being generated must not go on


def main(words: list[str]) -> int:
    """Loads the run, then answers until it is idle for long or the server ends."""
    # what libraries print must not come between the lines
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def write(line: dict[str, Any]) -> None:
        out.write(json.dumps(line) + "\n")
        out.flush()

    asked: queue.Queue[dict[str, Any]] = queue.Queue()
    cancelled: set[int] = set()
    language = os.environ.get("FULGURITE_LANG", "en")
    threading.Thread(target=_follow_server, args=(sys.stdin, asked, cancelled), daemon=True).start()
    with use_language(language if language in LANGUAGES else "en"):
        try:
            partner = load_partner(ChatConfig(run=words[0]), Allowed())
        except Exception as error:
            write({"error": describe_fault(error)})
            return 1
    worker = ChatWorker(partner, write)
    worker.cancelled = cancelled
    write({"ready": True})
    while True:
        try:
            worker.answer(asked.get(timeout=IDLE))
        except queue.Empty:
            return 0


if __name__ == "__main__":
    # `_follow_server` is blocked in a read, which would hold up the usual end
    status = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(status)
