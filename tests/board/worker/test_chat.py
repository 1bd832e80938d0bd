"""The process that answers as a run: what it streams is what `fulgurite chat` prints."""

from __future__ import annotations

import io
import json
import queue
from typing import Any

import pytest
import torch

from fulgurite.board.worker.chat import ChatWorker, describe_fault, read_requests
from fulgurite.config.chat_arguments import ChatConfig
from fulgurite.data.template import load_template
from fulgurite.errors import ModelError
from fulgurite.model.config import Tiny
from fulgurite.model.tiny import build
from fulgurite.serve.chat import ChatSession, Partner


@pytest.fixture(scope="module")
def partner() -> Partner:
    tiny = build(Tiny(hidden=32, layers=1), torch.float32)
    torch.manual_seed(4)
    with torch.no_grad():
        for parameter in tiny.model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)  # untrained it only writes tokens without a text
    return Partner(tiny.model, tiny.tokenizer, load_template(None, tiny.tokenizer), 400)


def ask(partner: Partner, *turns: tuple[str, str], most: int = 5, lang: str = "en") -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    messages = [{"role": role, "content": text} for role, text in turns]
    ChatWorker(partner, lines.append).answer({"id": 3, "messages": messages, "max_new_tokens": most, "lang": lang})
    assert {line["id"] for line in lines} == {3}
    return lines


def join(lines: list[dict[str, Any]]) -> str:
    return "".join(line.get("text", "") for line in lines if "done" not in line)


def test_streamed_text_is_what_the_command_prints(partner: Partner) -> None:
    out = io.StringIO()
    config = ChatConfig(model="x", temperature=0.0, max_new_tokens=12)
    ChatSession(partner, config, out).hold(io.StringIO("What is a warmup?\nAnd a rate?\n"))
    first = ask(partner, ("user", "What is a warmup?"), most=12)
    turns = [("user", "What is a warmup?"), ("assistant", first[-1]["text"]), ("user", "And a rate?")]
    second = ask(partner, *turns, most=12)
    printed = [f"> {question}\n{join(lines)} ({lines[-1]['note']})\n" for question, lines in
               (("What is a warmup?", first), ("And a rate?", second))]
    assert out.getvalue() == "".join(printed)
    assert len(first) > 4
    assert first[-1]["note"] == "cut at max_new_tokens=12"


def test_note_is_in_the_language_of_the_page(partner: Partner) -> None:
    assert ask(partner, ("user", "Hi"), lang="zh")[-1]["note"] != ask(partner, ("user", "Hi"))[-1]["note"]


def test_oldest_turns_are_dropped_and_a_question_too_long_is_a_note(partner: Partner) -> None:
    turns = [("user", "x" * 200), ("assistant", "y" * 200), ("user", "Hi"), ("assistant", "Ho"), ("user", "And?")]
    found = ask(partner, *turns)
    assert "dropped from the conversation: the oldest 1 turns" in found[-1]["note"]
    [alone] = ask(partner, ("user", "x" * 999))
    assert "ask a shorter one" in alone["note"]


def test_an_answer_ends_when_nobody_reads_it(partner: Partner) -> None:
    lines: list[dict[str, Any]] = []
    worker = ChatWorker(partner, lines.append)

    def write(line: dict[str, Any]) -> None:
        lines.append(line)
        worker.cancelled.add(1)

    worker._write = write
    worker.answer({"id": 1, "messages": [{"role": "user", "content": "Hi"}], "max_new_tokens": 300})
    assert len(lines) == 2
    assert lines[-1] == {"id": 1, "done": True, "stopped": False, "note": "", "text": ""}


@pytest.mark.parametrize(("error", "sentence"), [
    (ModelError("It is so."), "It is so."), (MemoryError(), "Out of memory: wait until"),
    (RuntimeError("CUDA out of memory. Tried"), "Out of memory: wait until"), (KeyError("x"), "The answer failed: "),
])
def test_any_error_is_one_sentence(partner: Partner, error: Exception, sentence: str) -> None:
    assert describe_fault(error).startswith(sentence)


def test_a_failed_answer_leaves_the_worker_ready(partner: Partner, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as broken:
        broken.setattr("fulgurite.model.generate.generate", fail)
        [line] = ask(partner, ("user", "Hi"))
    assert line["error"].startswith("Out of memory")
    assert ask(partner, ("user", "Hi"))[-1]["done"]


def test_requests_are_queued_and_a_cancel_is_noted_at_once() -> None:
    asked: queue.Queue[dict[str, Any]] = queue.Queue()
    cancelled: set[int] = set()
    read_requests([json.dumps({"id": 1}), json.dumps({"cancel": 1}), json.dumps({"id": 2})], asked, cancelled)
    assert ([asked.get()["id"], asked.get()["id"]], cancelled) == ([1, 2], {1})
