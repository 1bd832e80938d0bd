"""Questions of records: what is asked, and what is expected."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fulgurite.config.eval_arguments import Turns
from fulgurite.config.guard import Allowed
from fulgurite.data.example import Message
from fulgurite.errors import ConfigError
from fulgurite.evaluate.questions import HeldOutQuestion, check_reference, read_questions
from fulgurite.evaluate.subject import load_run_subject


def write(folder: Path, rows: list[dict[str, Any]]) -> list[str]:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ["data=file", f"data.path={path}"]


def read(run: Path, words: list[str]) -> list[HeldOutQuestion]:
    data = load_run_subject(run, "start", Allowed(), words, True).data
    assert data is not None
    return read_questions(data.source, data.rows)


def turns(*texts: str) -> list[dict[str, str]]:
    roles = ("user", "assistant")
    return [{"role": roles[n % 2], "content": text} for n, text in enumerate(texts)]


def test_the_last_answer_of_a_conversation_is_the_reference(sft: Path, tmp_path: Path) -> None:
    rows = [{"messages": turns("a", "b", "c", "d"), "topic": "letters"}, {"messages": turns("1", "2")}]
    first, second = read(sft, write(tmp_path, rows))
    assert [m.content for m in first.messages] == ["a", "b", "c"]
    assert (first.reference, second.reference) == ("d", "2")
    assert first.expected is not None
    assert first.expected.content == "d"
    assert first.columns == {"answer": "d", "topic": "letters"}
    assert first.place.endswith("rows.jsonl:1")


def test_each_answer_may_be_asked_for(sft: Path, tmp_path: Path) -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
    talk: list[dict[str, Any]] = [
        *turns("a"), {"role": "assistant", "content": "", "tool_calls": [call]}, {"role": "tool", "content": "5"},
        *({"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}),
        {"role": "assistant", "content": "left out", "train": False}, *turns("d", "e"),
    ]
    words = write(tmp_path, [{"messages": talk, "tools": [{"name": "f"}]}, {"messages": turns("1", "2")}])
    data = load_run_subject(sft, "start", Allowed(), words, True).data
    assert data is not None
    first, second, last, other = read_questions(data.source, data.rows, Turns.all)
    assert first.expected == Message("assistant", "", (call,))
    assert (first.messages[-1].content, len(first.messages), len(first.messages.tools)) == ("a", 1, 1)
    assert first.reference == first.columns["answer"] == '{"name": "f", "arguments": {"x": 1}}'
    assert (second.messages[-1].role, second.reference) == ("tool", "b")
    assert (last.messages[-1].content, last.reference, other.reference) == ("d", "e", "2")
    assert first.place.endswith("rows.jsonl:1, turn 2")
    assert read_questions(data.source, data.rows) == [last, other]


def test_the_better_answer_of_a_pair_is_the_reference(dpo: Path, tmp_path: Path) -> None:
    rows = [{"prompt": "q", "chosen": "good", "rejected": "bad"}]
    (only,) = read(dpo, write(tmp_path, rows))
    assert (only.messages[-1].content, only.reference) == ("q", "good")


def test_a_bad_answer_is_no_reference(kto: Path, tmp_path: Path) -> None:
    rows = [
        {"prompt": "q", "completion": "yes", "label": True}, {"prompt": "r", "completion": "no", "label": False},
        {"prompt": "s", "chosen": "better", "rejected": "worse"},
    ]
    found = read(kto, write(tmp_path, rows[:2]))
    assert [question.reference for question in found] == ["yes"]
    assert [question.reference for question in read(kto, write(tmp_path, rows[2:]))] == ["better"]


def test_prompts_of_a_policy_may_have_no_answer(grpo: Path, tmp_path: Path) -> None:
    rows = [{"prompt": "q", "solution": "4"}, {"prompt": "r", "solution": "5"}]
    found = read(grpo, write(tmp_path, rows))
    assert [(q.reference, q.expected, q.columns["solution"]) for q in found] == [(None, None, "4"), (None, None, "5")]
    with pytest.raises(ConfigError, match="metrics=bleu compares with reference answers"):
        check_reference(found, "bleu")


def test_only_the_given_rows_are_asked(sft: Path) -> None:
    from fulgurite.evaluate.subject import draw_rows

    data = load_run_subject(sft, "start", Allowed(), [], True).data
    assert data is not None
    some = draw_rows(data.rows, 4, 3)
    found = read_questions(data.source, some)
    assert sorted(q.place for q in found) == sorted(place for i in range(4) for place in some.places(i))
