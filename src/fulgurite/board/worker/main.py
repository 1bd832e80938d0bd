"""The process that makes plans for the page: JSON lines in, JSON lines out, one request at a time.

It keeps the tokenizer, the tokens and the outline of the model, so that a plan in which one value changed takes a
fraction of a second. Nothing that it prints by accident can be taken for an answer: answers go to a copy of the
standard output, and prints to the standard error.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from fulgurite.board.draft import build_words, read_draft
from fulgurite.board.draft_guard import IsAllowed
from fulgurite.board.roots import Roots
from fulgurite.board.worker.outside import refuse_outside
from fulgurite.board.worker.remedy import find_error_words, find_parameter
from fulgurite.config.schema import walk_settings
from fulgurite.errors import FulguriteError
from fulgurite.language.current import LANGUAGES, use_language
from fulgurite.text.console import to_one_line

NICENESS = 10
"""A plan waits for training, not training for a plan."""


class Worker:
    """Answers requests; keeps parts of plans between them."""

    def __init__(self, roots: Sequence[Path], allow_code: bool = False) -> None:
        from fulgurite.board.worker.estimate import SpeedBook
        from fulgurite.board.worker.rate import RateBook
        from fulgurite.plan.recall import Keeper

        self.roots, self.allow_code = Roots(roots), allow_code
        self.is_allowed: IsAllowed = (lambda path: True) if allow_code else self.roots.allows
        self.keep = Keeper(most=4)  # the rows of a large data set take memory
        self.speeds, self.rates = SpeedBook(self.roots.folders), RateBook()
        self.kinds: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
            "plan": self.plan, "data": self.preview, "machine": self.describe_machine, "prepare": self.prepare,
        }

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the answer to a request: its id, the status of HTTP, and the body."""
        language = request.get("lang")
        with use_language(language if language in LANGUAGES else "en"):
            status, body = self._answer(request)
        return {"id": request.get("id"), "status": status, "body": make_finite(body)}

    def _answer(self, request: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        make = self.kinds.get(str(request.get("kind")))
        if make is None:
            return 404, {"error": "", "words": ""}
        try:
            return 200, make(request)
        except FulguriteError as error:
            return 422, self._refuse(error, request)

    def _refuse(self, error: FulguriteError, request: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the sentence of an error, the parameter that it is about, and what a button can change."""
        try:
            draft = read_draft(request.get("draft"))
        except FulguriteError:
            return {"error": to_one_line(str(error)), "words": "", "about": "", "changes": None}
        words, changes = find_error_words(error, draft, self.allow_code, self.is_allowed)
        about = find_parameter(error, draft)
        return {"error": to_one_line(str(error)), "words": words, "about": about, "changes": changes}

    def plan(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Makes the plan of a draft."""
        from fulgurite.board.worker.estimate import estimate_time
        from fulgurite.board.worker.plan_view import build_plan
        from fulgurite.config.compose import compose
        from fulgurite.plan.judge import judge_run
        from fulgurite.plan.preflight import build_checked_source
        from fulgurite.plan.prepare import prepare_run, settle_precision

        draft = read_draft(request.get("draft"))
        words = build_words(draft, self.allow_code, self.is_allowed)
        composed = compose(words)
        source = build_checked_source(composed, self.keep)
        refuse_outside(source.files, self.is_allowed, composed.run.data.shipped[0] != "")
        dtypes = settle_precision(composed.run.precision, composed.run.trainer)
        gathered = prepare_run(composed, source, dtypes, self.keep)
        report = judge_run(dtypes, gathered)
        speed = self.speeds.find(composed.choices, {k.path: v for k, v in walk_settings(report.seen.run)})
        time = estimate_time(
            report.seen, speed, lambda: self.rates.find(dtypes.compute, report.seen.model.hidden)
        )
        return build_plan(draft, words, gathered, report, self.allow_code, time)

    def prepare(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Loads what plans need, and returns whether the bundled model has to be unpacked first."""
        import fulgurite.board.worker.plan_view
        import fulgurite.plan.judge
        import fulgurite.plan.prepare  # noqa: F401
        from fulgurite.model.smollm2 import needs_unpacking

        return {"unpacks": needs_unpacking()}

    def preview(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Reads the data of a draft."""
        from fulgurite.board.worker.data_view import preview_data

        draft = read_draft(request.get("draft"))
        return preview_data(draft, build_words(draft, self.allow_code, self.is_allowed), self.is_allowed, self.keep)

    def describe_machine(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Describes the machine."""
        from fulgurite.board.worker import machine

        return machine.describe_machine(self.roots.folders[0])


def make_finite(value: Any) -> Any:
    """Returns a value that JSON has: a number that is not finite becomes null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): make_finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [make_finite(item) for item in value]
    if value is None or isinstance(value, bool | int):
        return value
    # a scalar of numpy or torch
    return value.item() if hasattr(value, "item") else str(value)


def read_requests(stream: IO[bytes], waiting: queue.SimpleQueue[bytes]) -> None:
    """Passes lines on; ends the process when the server has closed the stream, whatever it is doing."""
    for line in stream:
        waiting.put(line)
    # sys.exit would end this thread alone
    os._exit(0)


def serve(worker: Worker, stream: IO[bytes], out: IO[bytes]) -> None:
    """Answers each line of `stream` with a line, until it ends."""
    waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=read_requests, args=(stream, waiting), daemon=True).start()
    while True:
        out.write(encode_answer(answer_line(worker, waiting.get())))
        out.flush()


def answer_line(worker: Worker, line: bytes) -> dict[str, Any]:
    """Answers one line; an error that nobody expected is printed, and answered with status 500."""
    try:
        request = json.loads(line)
        return worker.answer(request)
    except Exception:  # one broken request must not end the process, which has been kept warm
        traceback.print_exc()
        known = request if isinstance(request := _load(line), Mapping) else {}
        return {"id": known.get("id"), "status": 500, "body": {}}


def _load(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def encode_answer(answer: Mapping[str, Any]) -> bytes:
    """Returns an answer as a line of UTF-8; half of a character, which UTF-8 cannot hold, becomes a question mark."""
    return json.dumps(answer, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace") + b"\n"


def main(words: Sequence[str] | None = None) -> None:
    """Starts the worker: `python -m fulgurite.board.worker.main [--root FOLDER ...] [--allow-code]`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", action="append", default=[], type=Path)
    parser.add_argument("--allow-code", action="store_true")
    given = parser.parse_args(words)
    os.nice(NICENESS)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    import torch

    torch.set_num_threads(1)
    serve(Worker(given.root, given.allow_code), sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
