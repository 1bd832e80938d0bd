"""The thread that generates: its answers are those of `generate`, one after the other."""

from __future__ import annotations

import json
import queue
from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.serve.live import make_partner, script

from fulgurite.data.call_bodies import ParsedCall
from fulgurite.data.example import Message
from fulgurite.errors import ModelError
from fulgurite.model.generate import generate
from fulgurite.serve.answer_stream import AnswerStream
from fulgurite.serve.chat import Partner
from fulgurite.serve.chat_request import ChatRequest
from fulgurite.serve.generation import AnswerEnd, Generator, Part

QUESTION = [Message("user", "What is a warmup?")]


@pytest.fixture(scope="module")
def partner() -> Partner:
    return make_partner()


def run(partner: Partner, **how: Any) -> tuple[list[Part], AnswerStream]:
    """The parts of an answer, and its stream."""
    prompt = partner.template.encode_prompt(QUESTION)
    parts: queue.Queue[Part] = queue.Queue()
    generator = Generator(partner)
    stream = generator.start(ChatRequest(prompt, **{"max_new_tokens": 60, "temperature": 0.0, "top_p": 1.0} | how),
                             parts.put)
    found = [parts.get(timeout=60)]
    while not isinstance(found[-1], AnswerEnd):
        found.append(parts.get(timeout=60))
    generator.close()
    return found, stream


@pytest.mark.parametrize("how", [
    {"temperature": 0.0}, {"temperature": 1.0, "seed": 3}, {"temperature": 1.5, "seed": 4},
])
def test_the_pieces_are_the_answer_of_generate(partner: Partner, how: dict[str, Any]) -> None:
    expected = generate(partner.model, partner.tokenizer, partner.template, QUESTION, max_new_tokens=60, **how)
    (*pieces, end), stream = run(partner, **how)
    assert "".join(map(str, pieces)) == expected.text.lstrip()
    assert (stream.total_tokens, end) == (expected.tokens, AnswerEnd(cut=not expected.stopped))
    assert len(pieces) > 10


def test_a_whole_answer_is_not_cut(partner: Partner) -> None:
    (*pieces, end), _ = run(script(partner, " \n An answer.")[0])
    assert ("".join(map(str, pieces)), end) == ("An answer.", AnswerEnd(cut=False))
    (*pieces, end), _ = run(script(partner, "One. Two.")[0], stops=("Two",))
    assert ("".join(map(str, pieces)), end) == ("One. ", AnswerEnd(cut=False))


def test_a_call_is_a_part_of_its_own_and_a_damaged_one_is_text(partner: Partner) -> None:
    tools = ({"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}},)
    call = {"name": "f", "arguments": {"x": " \" 汉"}}
    written = json.dumps(call, ensure_ascii=False)  # as the template of this model writes it
    (*parts, end), _ = run(script(partner, f"Let me see.\n{written}")[0], tools=tools)
    assert parts[-1] == ParsedCall("f", {"x": " \" 汉"})
    assert "".join(p for p in parts if isinstance(p, str)).strip() == "Let me see."
    assert end == AnswerEnd()
    broken = written[: len(written) // 2]
    (*parts, _), _ = run(script(partner, broken)[0], tools=tools)
    assert "".join(map(str, parts)) == broken
    (*parts, _), _ = run(script(partner, written)[0])
    assert "".join(map(str, parts)) == written  # nothing is a call if the request has no functions


class FailingModel:
    """Raises an error in place of an answer."""

    def __init__(self, partner: Partner, error: Exception) -> None:
        self.real, self.error = partner.model, error

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def generate(self, **how: Any) -> None:
        """Raises the error."""
        raise self.error


@pytest.mark.parametrize(("error", "status", "sentence"), [
    (torch.OutOfMemoryError("CUDA out of memory"), 503, "Out of memory; send a shorter request"),
    (ValueError("odd"), 500, "The answer failed: ValueError: odd"), (ModelError("odd"), 400, "odd"),
])
def test_an_error_ends_the_answer(partner: Partner, error: Exception, status: int, sentence: str) -> None:
    (end,), _ = run(replace(partner, model=FailingModel(partner, error)))
    assert isinstance(end, AnswerEnd)
    assert end.error is not None
    assert end.error.status == status
    assert sentence in str(end.error)


def test_closing_ends_the_answer_under_way_and_those_that_wait(partner: Partner) -> None:
    held, model = script(partner, "An answer.", held=True)
    generator, parts = Generator(held), [queue.Queue[Part](), queue.Queue[Part]()]
    request = ChatRequest(partner.template.encode_prompt(QUESTION), 9, 0.0, 1.0)
    for each in parts:
        generator.start(request, each.put)
    assert model.begun.wait(60)
    generator.close()
    model.go.set()
    for each in parts:
        while not isinstance(end := each.get(timeout=60), AnswerEnd):
            pass
        assert end.error is not None
        assert end.error.status == 503
    assert len(model.prompts) == 1
