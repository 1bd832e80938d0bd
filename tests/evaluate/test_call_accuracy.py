"""Call accuracy, by hand; then of a model that is trained on real calls."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.end_to_end.runs import tiny

from fulgurite.config.chat_arguments import ChatConfig
from fulgurite.config.guard import Allowed
from fulgurite.data.example import Conversation, Message
from fulgurite.evaluate.call_accuracy import score_answer_calls, score_calls
from fulgurite.evaluate.command import eval_main
from fulgurite.evaluate.metrics import find_metrics, score_metrics
from fulgurite.evaluate.questions import HeldOutQuestion
from fulgurite.model.generate import Answer
from fulgurite.serve.chat import ChatSession, load_partner
from fulgurite.serve.toolbox import Toolbox


def call(name: str, arguments: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


A, B = call("weather", {"city": "Bern", "days": 2}), call("alarm", {"at": "7:00"})


@pytest.mark.parametrize(("made", "expected", "numbers"), [
    ([A], [A], (1, 1, 1, 0, 0)),
    ([B, A], [A, B], (1, 1, 1, 0, 0)),  # in any order
    ([call("weather", {"city": "Chur"})], [A], (1, 0, 0, 0, 0)),
    ([call("wether", {"city": "Bern", "days": 2})], [A], (0, 1, 0, 0, 0)),
    ([call("alarm", {})], [A], (0, 0, 0, 0, 0)),
    ([], [A], (0, 0, 0, 1, 0)),
    ([A], [A, B], (0.5, 0.5, 0.5, 0.5, 0)),
    ([A, A], [A], (1, 1, 1, 0, 1)),
    ([A, B, call("weather", {})], [A, A], (1, 0.5, 0.5, 0, 1)),
    ([call("weather", {}), A], [A, A], (1, 0.5, 0.5, 0, 0)),  # the equal pair first
])
def test_the_numbers_of_an_answer(made: list[Any], expected: list[Any], numbers: tuple[float, ...]) -> None:
    names = ("call_name", "call_arguments", "call_correct", "calls_missed", "calls_needless")
    assert score_calls(made, expected) == dict(zip(names, numbers, strict=True))


def test_where_no_call_is_expected_only_needless_ones_count() -> None:
    assert score_calls([], []) == {"calls_needless": 0}
    assert score_calls([A], []) == {"calls_needless": 1}


@pytest.mark.parametrize(("one", "other", "equal"), [
    ({"a": 1, "b": [2]}, {"b": [2], "a": 1}, True), ({"a": 1}, {"a": 1.0}, True), ({"a": 1}, {"a": True}, False),
    ({"a": 1}, {"a": "1"}, False), ({"a": None}, {}, False), ({}, None, True), ({"a": "x "}, {"a": "x"}, True),
    ({"a": "e\u0301"}, {"a": "é"}, True), ({"a": "X"}, {"a": "x"}, False), ({"a": 1}, '{"a": 1}', True),
    ({"a": [1, 2]}, {"a": [2, 1]}, False), ({"a": {"b": True}}, {"a": {"b": 1}}, False), ("broken {", "broken {", True),
])
def test_arguments_are_equal_as_json(one: Any, other: Any, equal: bool) -> None:
    assert score_calls([call("f", one)], [call("f", other)])["call_arguments"] == equal


def test_the_table_averages_over_the_answers_that_need_calls() -> None:
    tools = (call("weather", {}),)
    questions = [
        HeldOutQuestion("f:1", Conversation((Message("user", "q"),), tools), Message("assistant", "", calls), "")
        for calls in ((A,), (A,), (), ())
    ]
    answers = [Answer("", 1, True, calls=calls) for calls in ((A,), (), (B,), ())]
    totals, each = score_metrics(find_metrics(["tool_calls"]), questions, answers)
    assert totals == {
        "call_name": 0.5, "call_arguments": 0.5, "call_correct": 0.5, "calls_missed": 0.5, "calls_needless": 0.25,
    }
    assert each[3] == {"calls_needless": 0}
    assert score_answer_calls(answers[1], HeldOutQuestion("f:5", questions[0].messages)) == {"calls_needless": 0}


def evaluate(run: Path, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, float]:
    """The numbers of `fulgurite eval ... metrics=[tool_calls] turns=all`."""
    capsys.readouterr()
    assert eval_main([f"run={run}", "metrics=[tool_calls]", "turns=all", *words], as_json=True) == 0
    numbers: dict[str, float] = json.loads(capsys.readouterr().out)["numbers"]
    return numbers


def test_a_model_that_has_learned_a_call_makes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = {"tools": [{"name": "add"}], "messages": [
        {"role": "user", "content": "Sum?"},
        {"role": "assistant", "tool_calls": [{"name": "add", "arguments": {"a": 1}}]},
        {"role": "tool", "content": "5"}, {"role": "assistant", "content": "Five."},
    ]}
    (tmp_path / "calls.jsonl").write_text(f"{json.dumps(record)}\n" * 8)
    data = ("data=file", f"data.path={tmp_path / 'calls.jsonl'}")
    run = tiny(
        tmp_path / "run", *data, "method=full", "optim.lr=1e-2", "scheduler=constant", "data.val_fraction=0",
        "trainer.max_steps=80", "trainer.global_batch_size=2",
    )
    numbers = evaluate(run, capsys, *data, "max_examples=1", "max_new_tokens=40")
    assert [numbers[f"call_{name}"] for name in ("name", "arguments", "correct")] == [1, 1, 1]
    assert numbers["calls_missed"] == numbers["calls_needless"] == 0
    # The same model in a chat: the person's result leads to the learned answer.
    partner, out = load_partner(ChatConfig(run=str(run)), Allowed()), io.StringIO()
    tools = Toolbox(({"type": "function", "function": {"name": "add"}},))
    ChatSession(partner, ChatConfig(temperature=0.0, max_new_tokens=40), out, tools).hold(io.StringIO("Sum?\n5\n"))
    assert out.getvalue() == "> Sum?\n  add(a=1)\n  add = 5\nFive.\n"


@pytest.mark.matrix
def test_real_calls_are_trained_and_evaluated(
    tmp_path: Path, real_data: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = tiny(
        tmp_path / "run", "data=file", f"data.path={real_data('glaive_toolcall_en_demo.json')}", "method=full",
        "optim.lr=1e-2", "data.max_length=1024", "trainer.max_steps=20",
    )
    before = evaluate(run, capsys, "checkpoint=start", "max_examples=6", "max_new_tokens=8")
    numbers = evaluate(run, capsys, "max_examples=6", "max_new_tokens=8")
    assert before["loss"] == pytest.approx(math.log(512), abs=0.1)
    assert numbers["loss"] < before["loss"] - 1
    assert numbers["calls_missed"] == 1  # eight tokens of a model that knows nothing are no call
