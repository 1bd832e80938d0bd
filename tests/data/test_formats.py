"""A column is read once and under the name that was meant, and nothing is left out unnoticed."""

from __future__ import annotations

import csv
import datetime
import io
import json
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from tests.data.made_records import CALL, TOOL, A, Q, Write, call, nested, pairs_of, read, refused, source_of

from fulgurite.data import formats
from fulgurite.data.build import build_source
from fulgurite.data.config import File, Format
from fulgurite.data.fields import Reading, Wrong
from fulgurite.data.reads import reads_of
from fulgurite.data.source import _convert
from fulgurite.errors import DataError

COLUMNS: dict[str, tuple[dict[str, str], dict[str, Any], list[tuple[str, str]], dict[str, int]]] = {
    "input for the question": (
        {"instruction": "input", "output": "output"}, {"input": "a", "output": "b"},
        [("user", "a"), ("assistant", "b")], {},
    ),
    "back-translation": (
        {"instruction": "output", "output": "input"}, {"input": "a", "output": "b"},
        [("user", "b"), ("assistant", "a")], {},
    ),
    "a swap beside the instruction": (
        {"instruction": "output", "output": "instruction"}, {"instruction": "a", "output": "b"},
        [("user", "b"), ("assistant", "a")], {},
    ),
    "a swap that leaves one": (
        {"instruction": "output", "output": "input"}, {"instruction": "c", "input": "a", "output": "b"},
        [("user", "b"), ("assistant", "a")], {"instruction": 1},
    ),
    "history for the question": ({"instruction": "history"}, {"history": "a", "output": "b"},
        [("user", "a"), ("assistant", "b")], {}),
    "system for the answer": ({"output": "system"}, {"instruction": "a", "system": "b"},
        [("user", "a"), ("assistant", "b")], {}),
    "tools for the question": ({"instruction": "tools"}, {"tools": "a", "output": "b"},
        [("user", "a"), ("assistant", "b")], {}),
    "prompt for the answer": (
        {"instruction": "text", "output": "prompt"}, {"text": "a", "prompt": "b"}, [("user", "a"), ("assistant", "b")],
        {},
    ),
    "a column that is not read": (
        {"instruction": "q", "output": "a", "text": "t"}, {"q": "a", "a": "b", "t": "c"},
        [("user", "a"), ("assistant", "b")], {"t": 1},
    ),
    "one column for two fields": (
        {"instruction": "q", "system": "q", "output": "a"}, {"q": "a", "a": "b"},
        [("system", "a"), ("user", "a"), ("assistant", "b")], {},
    ),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_renamed_column_is_read_once(name: str, write: Write) -> None:
    columns, record, expected, unread = COLUMNS[name]
    source = source_of(write, [record], columns=columns)
    assert source.check().unread == unread
    assert pairs_of(source) == [expected]


def test_a_column_renamed_to_messages_and_from_messages(write: Write) -> None:
    source = source_of(write, [{"chat": [Q, A], "messages": "3 messages"}], columns={"messages": "chat"})
    assert source.check().unread == {"messages": 1}
    assert len(pairs_of(source)[0]) == 2
    pair = {"chosen": "bad", "rejected": "good", "prompt": "question"}
    swapped = source_of(write, [pair], "dpo", columns={"chosen": "rejected", "rejected": "chosen"})
    example = next(swapped.examples())
    assert (example.messages[-1].content, example.rejected[-1].content) == (
        "good", "bad"
    )  # type: ignore[union-attr,index]


PROMPT_COMPLETION: dict[str, tuple[dict[str, Any], list[tuple[str, str, bool]]]] = {
    "text": ({"prompt": "a", "completion": " b"}, [("user", "a", True), ("assistant", " b", True)]),
    "messages": ({"prompt": [Q], "completion": [A]}, [("user", "question", True), ("assistant", "answer", True)]),
    "one message": ({"prompt": [Q], "completion": A}, [("user", "question", True), ("assistant", "answer", True)]),
    "messages and text": ({"prompt": [Q], "completion": "b"}, [("user", "question", True), ("assistant", "b", True)]),
    "an earlier answer": (
        {"prompt": [Q, A, Q], "completion": [A]},
        [("user", "question", True), ("assistant", "answer", False), ("user", "question", True),
            ("assistant", "answer", True)],
    ),
    "a label beside": ({"prompt": "a", "completion": "b", "label": None},
        [("user", "a", True), ("assistant", "b", True)]),
    "output": ({"prompt": "a", "output": "b"}, [("user", "a", True), ("assistant", "b", True)]),
    "response to an instruction": ({"instruction": "a", "response": "b"},
        [("user", "a", True), ("assistant", "b", True)]),
    "messages by their columns": ({"instruction": [Q], "output": [A]},
        [("user", "question", True), ("assistant", "answer", True)]),
}


@pytest.mark.parametrize("name", PROMPT_COMPLETION)
def test_a_prompt_with_its_answer_is_learned(name: str, write: Write) -> None:
    record, expected = PROMPT_COMPLETION[name]
    source = source_of(write, [record])
    assert (source.format, source.check().unread) == ("alpaca", {})
    example = next(source.examples())
    assert [(m.role, m.content, m.learned) for m in example.messages] == expected  # type: ignore[union-attr]


def test_the_completion_goes_to_the_reward_of_a_stage_that_answers(write: Write) -> None:
    source = source_of(write, [{"prompt": "a", "completion": "b"}], "grpo")
    source.check()
    assert next(source.examples()).columns == {"completion": "b"}  # type: ignore[union-attr]


SHAPES: dict[str, Any] = {
    "a bare list": [Q, A],
    "a bare object of lists": {"role": ["user", "assistant"], "content": ["question", "answer"]},
    "an object of lists": {"messages": {"role": ["user", "assistant"], "content": ["question", "answer"],
        "tool_calls": [None, None]}},
    "an object of lists of sharegpt": {"conversations": {"from": ["human", "gpt"], "value": ["question", "answer"]}},
    "JSON text": {"messages": json.dumps([Q, A])},
    "a null beside": {"messages": None, "conversations": [Q, A]},
    "roles in capitals": {"messages": [{**Q, "role": "User"}, {**A, "role": "ASSISTANT"}]},
    "roles of OpenAssistant": {"messages": [{"role": "prompter", "text": "question"},
        {"role": "assistant", "text": "answer"}]},
}


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_of_a_conversation(name: str, write: Write) -> None:
    source = source_of(write, [SHAPES[name]])
    assert source.check().unread == {}
    assert pairs_of(source) == [[("user", "question"), ("assistant", "answer")]]


def test_objects_of_nulls_are_nothing(write: Write) -> None:
    null_call, null_image = {"function_call": {"name": None, "arguments": None}}, {"image": {"bytes": None,
        "path": None}}
    source = source_of(
        write, [{"messages": [{**Q, **null_call, **null_image}, {**A, **null_call}], "image": {"path": None}}]
    )
    assert source.check().unread == {}
    assert pairs_of(source) == [[("user", "question"), ("assistant", "answer")]]


def test_keys_of_a_turn_are_named_like_columns(write: Write) -> None:
    record = {"dialog": [{"speaker": "user", "said": "a", "mood": 1}, {"speaker": "assistant", "said": "b", "mood": 2}]}
    with pytest.raises(DataError,
        match=r"'messages\[0\]\.role': the turn has no role; name the keys of a turn with data\.columns=\{role"):
        source_of(write, [record], columns={"messages": "dialog"}).check()
    source = source_of(write, [record], columns={"messages": "dialog", "role": "speaker", "content": "said"})
    assert source.check().unread == {"messages[].mood": 1}
    assert pairs_of(source) == [[("user", "a"), ("assistant", "b")]]


def test_a_csv_file_with_messages_as_json(write: Write) -> None:
    out = io.StringIO()
    csv.writer(out).writerows([["messages", "tools"], [json.dumps([Q, A]), json.dumps([TOOL])]])
    source = build_source(File(path=[str(write("a.csv", out.getvalue()))]), stage="sft", seed=1)
    assert source.check().unread == {}
    assert next(source.examples()).messages == read({"messages": [Q, A],
        "tools": [TOOL]})[0]  # type: ignore[union-attr]


def test_roles_of_the_user_are_read(write: Write) -> None:
    record = {"messages": [{"role": "Customer", "content": "a"}, {"role": "Agent", "content": "b"}]}
    refusal = (
        r"'messages\[0\]\.role': 'Customer' is not a known role; "
        r"map it to one with data\.roles=\{Customer: user\}"
    )
    with pytest.raises(DataError, match=refusal):
        source_of(write, [record]).check()
    roles = {"Customer": "user", "Agent": "assistant"}
    assert pairs_of(source_of(write, [record], roles=roles)) == [[("user", "a"), ("assistant", "b")]]
    swapped = source_of(write, [{"messages": [{**A}, {**Q}]}], roles={"user": "assistant", "assistant": "user"})
    assert pairs_of(swapped) == [[("user", "answer"), ("assistant", "question")]]
    with pytest.raises(
        DataError, match=r"data\.roles: Customer is mapped to usr, which is not a role; the roles are user, assistant"
    ):
        source_of(write, [record], roles={"Customer": "usr"})


# --- what is read as it was meant, and said


def test_numbers_and_booleans_are_read_as_text_and_noted(write: Write) -> None:
    answers = [0, 3.5, True, False, -7]
    source = source_of(write, [{"instruction": "a", "input": "", "output": answer} for answer in answers])
    assert source.check().remarks == {"a number or a boolean read as text": 5}
    assert [talk[-1][1] for talk in pairs_of(source)] == ["0", "3.5", "true", "false", "-7"]
    assert "a number or a boolean read as text (in 5)" in str(source.checked.describe(source))  # type: ignore[union-attr]
    assert read({"messages": [{**Q, "content": Decimal("1.50")}, A]})[0][0].content == "1.50"


@pytest.mark.parametrize("ids", [["x", "x", "x"], ["", "", ""], [-1, -2, True], [1, True, 1.0]])
def test_ids_of_messages_are_not_checked(ids: list[Any], write: Write) -> None:
    source = source_of(write, [{"id": name, "instruction": f"a{n}", "output": "b"} for n, name in enumerate(ids)])
    found = source.check()
    assert (found.good, found.bad, found.unread) == (3, [], {})


def test_empty_turns(write: Write) -> None:
    no_system = source_of(write, [{"messages": [{"role": "system", "content": ""}, Q, A]}])
    assert pairs_of(no_system) == [[("user", "question"), ("assistant", "answer")]]
    own = source_of(write, [{"system": "s", "messages": [{"role": "system", "content": None}, Q, A]}])
    assert pairs_of(own) == [[("system", "s"), ("user", "question"), ("assistant", "answer")]]
    empty_result = source_of(write, [{"messages": [Q, A, {"role": "tool", "content": ""}, A]}])
    assert pairs_of(empty_result)[0][2] == ("tool", "")
    by_input = source_of(write, [{"instruction": "", "input": "a", "output": "b"}, {"input": "a", "output": "b"}])
    assert pairs_of(by_input) == [[("user", "a"), ("assistant", "b")]] * 2
    assert refused({"messages": [{"role": "system", "content": " "}]}) == (
        "field 'messages[0]': is an empty system turn, and no other turn follows"
    )


def test_parallel_calls_in_a_row_are_one_turn(write: Write) -> None:
    calls = [{"from": "function_call", "value": json.dumps({"name": "f", "arguments": {"town": n}})} for n in (0, 1)]
    results = [{"from": "observation", "value": word} for word in ("clear", "rain")]
    turns = [{"from": "human", "value": "a"}, *calls, *results, {"from": "gpt", "value": "b"}]
    source = source_of(write, [{"conversations": turns}])
    assert source.check().remarks == {"two assistant turns in a row joined into one": 1}
    messages = next(source.examples()).messages  # type: ignore[union-attr]
    assert [m.role for m in messages or ()] == ["user", "assistant", "tool", "tool", "assistant"]
    assert [c["function"]["arguments"]["town"] for c in messages[1].tool_calls] == [0, 1]  # type: ignore[index]


def test_two_turns_of_one_speaker_are_joined_and_noted(write: Write) -> None:
    turns = [Q, {**Q, "content": "more"}, {**A, "content": "one"}, call(), {"role": "tool", "content": ""}, A]
    source = source_of(write, [{"messages": turns}])
    assert source.check().remarks == {
        "two user turns in a row joined into one": 1, "two assistant turns in a row joined into one": 1,
    }
    messages = next(source.examples()).messages  # type: ignore[union-attr]
    assert [(m.content, len(m.tool_calls)) for m in messages or ()] == [
        ("question\n\nmore", 0), ("one", 1), ("", 0), ("answer", 0),
    ]


UNREAD: dict[str, tuple[dict[str, Any], dict[str, int]]] = {
    "inside turns": (
        {"messages": [{**Q, "images": ["x"]}, {**A, "images": ["y"], "score": 1, "from": None}]},
        {"messages[].images": 2, "messages[].score": 2},
    ),
    "inside calls": (
        {"messages": [Q, {**A, "tool_calls": [{**CALL, "index": 0}]}, {"role": "tool", "content": "1"}, A]},
        {"messages[].tool_calls[].index": 2},
    ),
    "messages beside conversations": ({"messages": [Q, A], "conversations": [Q, A]}, {"conversations": 2}),
    "prompt and response beside instruction": (
        {"instruction": "a", "output": "b", "prompt": "c", "response": "d"}, {"prompt": 2, "response": 2},
    ),
    "instruction beside messages": ({"messages": [Q, A], "instruction": "a", "output": "b"},
        {"instruction": 2, "output": 2}),
    "completion beside output": ({"instruction": "a", "output": "b", "completion": "c"}, {"completion": 2}),
    "tools beside functions": ({"messages": [Q, A], "tools": [TOOL], "functions": [TOOL]}, {"functions": 2}),
    "two names of reasoning": ({"messages": [Q, {**A, "thinking": "a", "reasoning_content": "b"}]},
        {"messages[].thinking": 2}),
    "the id of a call on an answer": ({"messages": [Q, {**A, "tool_call_id": "c"}]}, {"messages[].tool_call_id": 2}),
    "content beside value": ({"conversations": [{**Q, "value": "other"}, A]}, {"conversations[].value": 2}),
    "null": ({"instruction": "a", "output": "b", "label": None}, {}),
}


@pytest.mark.parametrize("name", UNREAD)
def test_what_nothing_reads_is_counted_in_how_many_records(name: str, write: Write) -> None:
    record, unread = UNREAD[name]
    assert source_of(write, [record, record]).check().unread == unread


def test_a_flag_on_a_question_is_noted(write: Write) -> None:
    source = source_of(write, [{"messages": [{**Q, "weight": 1}, {**A, "weight": 1}]}])
    assert list(source.check().remarks) == ["a flag to learn a turn that is not an answer; it is not learned"]
    assert source_of(write, [{"messages": [{**Q, "weight": 0}, A]}]).check().remarks == {}


DETECTED: dict[str, tuple[Any, str, Format | None]] = {
    "text in pre-training": ({"instruction": "a", "output": "b", "text": "c"}, "pt", Format.text),
    "alpaca elsewhere": ({"instruction": "a", "output": "b", "text": "c"}, "sft", Format.alpaca),
    "input and output": ({"input": "a", "output": "b"}, "sft", Format.alpaca),
    "a prompt alone": ({"prompt": "a", "level": 1}, "sft", Format.prompts),
    "a prompt whose answer is null": ({"prompt": "a", "completion": None}, "sft", Format.prompts),
    "messages of null": ({"messages": None}, "sft", Format.openai),
    "a list of numbers": ([1, 2], "sft", None),
    "nothing known": ({"a": 1}, "sft", None),
}


@pytest.mark.parametrize("name", DETECTED)
def test_the_format_of_a_record_is_detected(name: str) -> None:
    record, stage, format = DETECTED[name]
    assert formats.detect_format(record, reads_of(stage)) is format


# --- whatever a record holds


BASES: list[Any] = [
    {"messages": [{"role": "system", "content": "s"}, Q, {**call(), "reasoning_content": "r"},
        {"role": "tool", "content": "1"}, A],
     "tools": [TOOL]},
    {"conversations": [{"from": "human", "value": "q"},
        {"from": "function_call", "value": '{"name": "f", "arguments": {}}'},
                       {"from": "observation", "value": "1"}, {"from": "gpt", "value": "a"}], "system": "s",
                       "tools": '[{"name": "f"}]'},
    {"instruction": "q", "input": "i", "output": "o", "history": [["a", "b"]], "system": "s"},
    {"prompt": [Q], "completion": [A]},
    {"prompt": "q", "completion": "a", "label": True}, {"prompt": "q", "chosen": "a", "rejected": "b", "margin": 1},
    {"chosen": [Q, A], "rejected": [Q, {**A, "content": "b"}]}, {"messages": [Q, A], "label": 1}, {"text": "x"},
    {"prompt": "x", "n": 1},
    {"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"},
    {"role": ["user", "assistant"], "content": ["q", "a"]}, [Q, A],
]
VALUES: list[Any] = [
    None, True, 0, -1, 0.5, float("nan"), float("inf"), 10**400, 10**5000, "", " ", "x", "\ud800", "\0", "[", "{}",
    "[]", "[{}]", "null",
    '{"name": 1}', "[" * 3000, [], {}, [[]], [{}], [None], {"a": None}, {"text": None}, {"type": "text"},
    {"type": "text", "text": "x"},
    b"x", Decimal("1.5"), Decimal("nan"), Decimal("1e999999"), datetime.date(2020, 1, 1), datetime.timedelta(1),
    ("a", "b"), [("a", 1)],
    [("a", None)], {1: 2}, {None: 1}, Q, A, [Q], [A], CALL, [CALL], "tool", "assistant", nested(2000),
]
KEYS = ["messages", "prompt", "completion", "label", "tools", "role", "from", "content", "value", "tool_calls",
    "function_call", "weight",
        "train", "name", "thinking", "system", "history", "input", "images"]


def places_in(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(
        value, list
    ) and len(at) < 8 else ()
    return [at, *(place for key, item in below for place in places_in(item, (*at, key)))]


def changed(value: Any, at: tuple[Any, ...], other: Any, key: str | None) -> Any:
    if not at:
        return {**value, key: other} if key and isinstance(value, dict) else other
    copied = value.copy()
    copied[at[0]] = changed(value[at[0]], at[1:], other, key)
    return copied


@pytest.mark.parametrize("seed", range(4))
def test_any_record_is_read_or_refused_in_one_line(seed: int) -> None:
    random = Random(seed)
    read, refusals = 0, []
    for _ in range(500):
        record = random.choice(BASES)
        for _ in range(random.randint(1, 3)):
            record = changed(
                record, random.choice(places_in(record)), random.choice(VALUES), random.choice(KEYS)
                if random.random() < 0.3 else None,
            )
        for stage in ("sft", "dpo", "kto", "grpo", "pt"):
            found = formats.detect_format(record, reads_of(stage))
            format = found or random.choice([format for format in Format if format is not Format.auto])
            reading = Reading(columnar=random.random() < 0.5)
            try:
                made = _convert(formats.rename_fields(record, {}, reading), format)
            except Wrong as wrong:
                refusals.append(str(wrong))
                continue
            read += 1
            for message in made.get("messages") or ():
                message.content.encode()
                json.dumps([dict(one) for one in message.tool_calls], allow_nan=False).encode()
            json.dumps(
                [dict(tool) for tool in (made["messages"].tools if made.get("messages") else ())], allow_nan=False
            ).encode()
    assert min(read, len(refusals)) > 200
    assert not [line for line in refusals if "\n" in line or len(line) > 1000]
