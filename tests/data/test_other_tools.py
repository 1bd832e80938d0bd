"""Records as other tools write them: greetings, system turns anywhere, exchanges, refusals, keys inside columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.data.made_records import A, Q, Write, pairs_of, source_of

from fulgurite.data.build import build_source
from fulgurite.data.config import File
from fulgurite.data.example import Example
from fulgurite.data.formats import GREETING, NOT_ANSWERED
from fulgurite.data.messages import BY_TURNS
from fulgurite.data.source import Source
from fulgurite.errors import DataError

S = {"role": "system", "content": "rule"}
HELLO = {"role": "assistant", "content": "hello"}
TURNS: dict[str, tuple[dict[str, Any], list[str], set[str]]] = {
    "greeting": ({"messages": [HELLO, Q, A]}, ["hello", "question", "answer"], {GREETING}),
    "greeting after system": ({"messages": [S, HELLO, Q, A]}, ["rule", "hello", "question", "answer"], {GREETING}),
    "two greetings": (
        {"messages": [HELLO, HELLO, Q, A]}, ["hello\n\nhello", "question", "answer"],
        {GREETING, "two assistant turns in a row joined into one"},
    ),
    "later system": ({"messages": [Q, A, S, Q, A]}, ["question", "answer", "rule", "question", "answer"], set()),
    "system before the answer": ({"messages": [Q, S, A]}, ["question", "rule", "answer"], set()),
    "two systems": ({"messages": [S, S, Q, A]}, ["rule\n\nrule", "question", "answer"],
        {"two system turns in a row joined into one"}),
    "system twice": ({"messages": [S, Q, A], "system": "rule"}, ["rule", "question", "answer"], set()),
    "another system": ({"messages": [S, Q, A], "system": "x"}, ["x\n\nrule", "question", "answer"],
        {"two system turns in a row joined into one"}),
    "a question last": ({"messages": [Q, A, Q]}, ["question", "answer"], {NOT_ANSWERED}),
    "a result last": ({"messages": [Q, A, {"role": "tool", "content": "1"}]}, ["question", "answer"], {NOT_ANSWERED}),
    "exchanges": (
        {"messages": [{"input": "a", "output": "b"}, {"human": "c", "assistant": "d"}]}, ["a", "b", "c", "d"], set(),
    ),
    "texts": ({"messages": ["a", "b", "c", "d"]}, ["a", "b", "c", "d"], {BY_TURNS}),
    "pairs": ({"messages": [["a", "b"], ["c", "d"]]}, ["a", "b", "c", "d"], set()),
    "history of turns": ({"instruction": "a", "output": "b", "history": [Q, A]}, ["question", "answer", "a", "b"],
        set()),
    "a greeting in the history": (
        {"instruction": "a", "output": "b", "history": [["", "hello"], ["question", "answer"]]},
        ["hello", "question", "answer", "a", "b"], {GREETING},
    ),
    "no question in the history": ({"instruction": "a", "output": "b", "history": [[None, "hello"]]},
        ["hello", "a", "b"], {GREETING}),
    "refusal": ({"messages": [Q, {"role": "assistant", "content": None, "refusal": "no"}]}, ["question", "no"], set()),
    "refusal as a part": (
        {"messages": [Q, {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}]}, ["question", "no"],
        set(),
    ),
    "system as parts": ({"system": [{"text": "x"}, {"text": "y"}], "messages": [Q, A]}, ["xy", "question", "answer"],
        set()),
    "Dolly": ({"instruction": "a", "context": "c", "response": "b"}, ["a\nc", "b"], set()),
}


@pytest.mark.parametrize("name", TURNS)
def test_turns_are_read_as_they_were_meant(name: str, write: Write) -> None:
    record, contents, remarks = TURNS[name]
    source = source_of(write, [record])
    checked = source.check()
    assert set(checked.remarks) == remarks
    assert not checked.unread
    assert [content for _, content in pairs_of(source)[0]] == contents
    example = next(source.examples())
    assert isinstance(example, Example)
    assert [m.learned for m in example.messages or () if m.role == "assistant"][-1]
    assert all(m.learned == (m.content in ("answer", "b", "d", "no")) for m in example.messages or ()
        if m.role == "assistant")


@pytest.mark.parametrize("record", [
    {"instruction": "a", "output": ["b", "c"]}, {"instruction": ["a", "b"], "output": "c"},
    {"prompt": "a", "completion": [["b", "c"]]},
    {"prompt": "a", "response": {"question": "b", "answer": "c"}},
])
def test_a_list_of_answers_is_no_conversation(record: Any, write: Write) -> None:
    with pytest.raises(DataError):
        source_of(write, [record]).check()


def test_a_column_without_a_name_is_named(write: Write) -> None:
    source = build_source(File(path=[str(write("a.csv", ",instruction,output\n0,a,b\n"))]), stage="sft", seed=1)
    assert source.check().unread == {"''": 1}


def test_a_judged_answer_is_the_last_turn(write: Write) -> None:
    with pytest.raises(DataError, match="there is no answer to judge"):
        source_of(write, [{"messages": [Q, A, Q], "label": True}], "kto").check()


@pytest.mark.parametrize("turns", [[Q], [Q, A, Q], [HELLO, Q], [S, Q]])
def test_a_stage_that_answers_takes_a_question_last(turns: list[Any], write: Write) -> None:
    source = source_of(write, [{"messages": turns, "reference": 7}], "grpo")
    assert source.check().good == 1
    example = next(source.examples())
    assert isinstance(example, Example)
    assert [m.content for m in example.messages or ()] == [turn["content"] for turn in turns]
    assert example.columns == {"reference": 7}


def test_an_instruction_alone_is_a_prompt_of_a_stage_that_answers(write: Write) -> None:
    source = source_of(write, [{"instruction": "a", "input": "b", "answer": "3"}], "grpo")
    example = next(source.examples())
    assert isinstance(example, Example)
    assert ([m.content for m in example.messages or ()], example.columns) == (["a\nb"], {"answer": "3"})


def test_a_folder_with_splits_is_not_learned_as_one(write: Write) -> None:
    record = {"instruction": "a", "output": "b"}
    train = write("data/train-00000-of-00001.jsonl", [record])
    write("data/dataset_info.json", {"features": {}})
    assert source_of_path(train.parent).files == [train]
    val = write("data/validation.jsonl", [record])
    with pytest.raises(DataError, match="in one folder; choose one for training") as caught:
        source_of_path(train.parent)
    words = f"data.path={train.parent}/train*.jsonl, and for example data.val_path={train.parent}/validation*.jsonl."
    assert words in str(caught.value)
    named = build_source(File(path=[f"{train.parent}/train*.jsonl"], val_path=[f"{train.parent}/validation*.jsonl"]),
        stage="sft", seed=1)
    assert (named.train, named.val) == ([train], [val])


def source_of_path(path: Path) -> Source:
    return build_source(File(path=[str(path)]), stage="sft", seed=1)


@pytest.mark.parametrize("rejected",
    [{"rejected_response": "worse"}, {"rejected_messages": [Q, {**A, "content": "worse"}]}])
@pytest.mark.parametrize("stage", ["dpo", "rm", "kto"])
def test_the_worse_answer_beside_messages(stage: str, rejected: dict[str, Any], write: Write) -> None:
    examples = list(source_of(write, [{"messages": [Q, A], **rejected}], stage).examples())
    assert all(isinstance(example, Example) for example in examples)
    said = [[m.content for m in side] for e in examples for side in (e.messages, e.rejected)
        if side]  # type: ignore[union-attr]
    assert said == [["question", "answer"], ["question", "worse"]]


def test_the_worse_answer_to_another_prompt_is_refused(write: Write) -> None:
    with pytest.raises(DataError, match="'rejected_messages': its prompt differs"):
        source_of(write, [{"messages": [Q, A], "rejected_messages": [{**Q, "content": "x"}, HELLO]}], "dpo").check()


def test_a_key_inside_a_column(write: Write) -> None:
    record = {"a.b": "dots", "body": {"q": "a", "n": {"text": ["b", "c"]}, "m": 1, "e": None}}
    source = source_of(write, [record], columns={"instruction": "body.q", "output": "body.n.text.1"})
    assert source.check().unread == {"a.b": 1, "body.m": 1, "body.n.text (other items)": 1}
    assert pairs_of(source) == [[("user", "a"), ("assistant", "c")]]
    source = source_of(write, [record], columns={"instruction": "a.b", "output": "body.q"})
    assert source.check().unread == {"body.n": 1, "body.m": 1}
    assert pairs_of(source) == [[("user", "dots"), ("assistant", "a")]]
    with pytest.raises(DataError, match=r"the record has no body\.x"):
        source_of(write, [record], columns={"instruction": "body.x"})


def test_keys_inside_a_turn_are_read_and_the_others_counted(write: Write) -> None:
    turns = [
        {"author": {"role": "user", "name": "x"}, "content": {"type": "text", "parts": ["a", "more"]}},
        {"author": {"role": "assistant", "name": None}, "content": {"type": "text", "parts": ["b"]}},
    ]
    source = source_of(write, [{"messages": turns}], columns={"role": "author.role", "content": "content.parts.0"})
    assert source.check().unread == {
        "messages[].author.name": 1, "messages[].content.type": 1, "messages[].content.parts (other items)": 1,
    }
    assert pairs_of(source) == [[("user", "a"), ("assistant", "b")]]


@pytest.mark.parametrize("key", ["reasoning_content", "thinking", "reasoning"])
def test_what_was_thought_before_an_answer_in_a_column_of_its_own(key: str, write: Write) -> None:
    records = [{"prompt": "a", key: "thought", "response": "b"}, {"prompt": "a", key: None, "response": "b"}]
    source = source_of(write, records)
    assert not source.check().unread
    assert [example.messages[-1].reasoning for example in source.examples()] == [
        "thought", ""
    ]  # type: ignore[union-attr,index]
    rewarded = next(source_of(write, [{**records[0], "instruction": "c", "context": "d"}], "grpo").examples())
    assert isinstance(rewarded, Example)
    assert (rewarded.columns[key], rewarded.columns["context"]) == ("thought", "d")


def read_json(write: Write, content: Any) -> Source:
    source = build_source(File(path=[str(write("a.json", content))]), stage="sft", seed=1)
    source.check()
    return source


@pytest.mark.parametrize("content", [
    {"data": [{"instruction": "a", "output": "b"}, {"instruction": "c", "output": "d"}]},
    {"version": 1, "fields": ["x"], "rows": [{"instruction": "a", "output": "b"}, {"instruction": "c", "output": "d"}]},
    {"instruction": ["a", "c"], "output": ["b", "d"]},
])
def test_records_inside_one_object(content: Any, write: Write) -> None:
    source = read_json(write, content)
    assert pairs_of(source) == [[("user", "a"), ("assistant", "b")], [("user", "c"), ("assistant", "d")]]
    assert [example.place.line for example in source.examples()] == [1, 2]


@pytest.mark.parametrize(("content", "said"), [
    ({"messages": [Q, A]}, "put it into a list"),
    ({"messages": [Q, A], "tools": [{"name": "f"}]}, "put it into a list"),
    ({"train": [{"instruction": "a", "output": "b"}], "test": [{"instruction": "a", "output": "b"}]},
        "to a file of its own"),
    ('{"data": [{"instruction": "a", "output": "' + "b" * (9 << 20) + '"}]}', "write its list to a file of its own"),
    ('{"data": [{"instruction": "a"}]} {}', "more text follows after the object"),
    ('{"data": [], "data": []}', "the key is repeated"),
])
def test_one_object_that_holds_no_records(content: Any, said: str, write: Write) -> None:
    with pytest.raises(DataError) as caught:
        read_json(write, content)
    assert said in str(caught.value)
