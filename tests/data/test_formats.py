"""Records keep their structure, a column is read once and under the name that was meant, and nothing is left out unnoticed."""

from __future__ import annotations

import csv
import datetime
import io
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fulgurite.data import formats
from fulgurite.data.config import File, Format
from fulgurite.data.fields import Fields, Reading, Wrong
from fulgurite.data.records import Conversation, Example, Message
from fulgurite.data.source import Source, _convert, build
from fulgurite.errors import DataError

Write = Callable[[str, Any], Path]
Q, A = {"role": "user", "content": "question"}, {"role": "assistant", "content": "answer"}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": {"town": "Bern", "days": 2}}}


def call(name: Any = "weather", arguments: Any = "{}") -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": name, "arguments": arguments}}]}


def read(record: Any, format: Format = Format.openai, columnar: bool = False, **roles: str) -> tuple[Conversation, Reading]:
    reading = Reading(roles, columnar)
    messages, _ = formats.convert(formats.rename(record, {}, reading), format)
    assert messages is not None
    return messages, reading


def refused(record: Any, format: Format = Format.openai, columnar: bool = False) -> str:
    with pytest.raises(Wrong) as caught:
        read(record, format, columnar)
    return str(caught.value)


def source_of(write: Write, records: list[Any], stage: str = "sft", **more: Any) -> Source:
    return build(File(path=[str(write("a.jsonl", records))], **more), stage=stage, seed=1)


def pairs_of(source: Source) -> list[list[tuple[str, str]]]:
    examples = list(source.examples())
    assert all(isinstance(example, Example) for example in examples), examples
    return [[(m.role, m.content) for m in example.messages or ()] for example in examples]  # type: ignore[union-attr]


# --- the structure of a message


def test_a_message_keeps_calls_reasoning_names_and_tools() -> None:
    answer = {"role": "assistant", "content": "", "reasoning_content": "look it up", "tool_calls": [CALL]}
    result = {"role": "tool", "content": '{"sky": "clear"}', "name": "weather", "tool_call_id": "c1"}
    messages, reading = read({"tools": [TOOL], "messages": [{**Q, "name": "ann"}, answer, result, A]})
    assert messages == Conversation((
        Message("user", "question", name="ann"), Message("assistant", "", (CALL,), "look it up"),
        Message("tool", '{"sky": "clear"}', name="weather", call_id="c1"), Message("assistant", "answer"),
    ), (TOOL,))
    assert (reading.unread, reading.remarks) == (set(), set())


FORMS_OF_A_CALL: dict[str, dict[str, Any]] = {
    "arguments as text": {"tool_calls": [{"function": {"name": "f", "arguments": '{"x": 1}'}}]},
    "arguments as an object": {"tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}]},
    "bare": {"tool_calls": [{"name": "f", "arguments": {"x": 1}}]},
    "one object": {"tool_calls": {"name": "f", "arguments": {"x": 1}}},
    "a list as text": {"tool_calls": '[{"function": {"name": "f", "arguments": "{\\"x\\": 1}"}}]'},
    "OpenAI's older form": {"function_call": {"name": "f", "arguments": '{"x": 1}'}},
    "beside an empty list": {"function_call": {"name": "f", "arguments": '{"x": 1}'}, "tool_calls": []},
    "a role of its own": {"role": "function_call", "content": '{"name": "f", "arguments": {"x": 1}}'},
    "a role of ms-swift": {"role": "tool_call", "content": '{"name": "f", "arguments": "{\\"x\\": 1}"}'},
}


@pytest.mark.parametrize("form", FORMS_OF_A_CALL)
def test_every_form_of_a_call_is_one_structure(form: str) -> None:
    turn = {"role": "assistant", "content": None, **FORMS_OF_A_CALL[form]}
    messages, reading = read({"messages": [Q, turn, {"role": "tool", "content": "1"}, A]})
    assert messages[1] == Message("assistant", "", ({"type": "function", "function": {"name": "f", "arguments": {"x": 1}}},))
    assert reading.unread == set()


@pytest.mark.parametrize("given", [[{"name": "f"}], '[{"name": "f"}]', [{"type": "function", "function": {"name": "f"}}]])
@pytest.mark.parametrize("name", ["tools", "functions"])
def test_every_form_of_the_functions_is_one_structure(name: str, given: Any) -> None:
    messages, _ = read({"messages": [Q, A], name: given})
    assert messages.tools == ({"type": "function", "function": {"name": "f"}},)


@pytest.mark.parametrize("given", [None, "", "[]", []])
def test_no_functions(given: Any) -> None:
    assert read({"messages": [Q, A], "tools": given})[0].tools == ()


@pytest.mark.parametrize("key", ["reasoning_content", "thinking", "reasoning"])
def test_reasoning_under_each_of_its_names(key: str) -> None:
    messages, reading = read({"messages": [Q, {**A, key: "because"}]})
    assert (messages[1].reasoning, messages[1].content, reading.unread) == ("because", "answer", set())
    assert read({"messages": [{**Q, key: "because"}, A]})[1].unread == {f"messages[].{key}"}


@pytest.mark.parametrize("flag", ["train", "loss", "weight", "loss_weight"])
@pytest.mark.parametrize(("value", "learned"), [(0, False), (False, False), (0.0, False), (1, True), (True, True), (None, True)])
def test_a_flag_says_whether_a_turn_is_learned(flag: str, value: Any, learned: bool) -> None:
    messages, reading = read({"messages": [Q, {**A, flag: value}, Q, A]})
    assert [m.learned for m in messages] == [True, learned, True, True]
    assert reading.unread == set()


def test_a_masked_answer_gets_no_label(write: Write, tokenizer: Any, tmp_path: Path) -> None:
    from fulgurite.data.encode import encode
    from fulgurite.data.template import resolve

    source = source_of(write, [{"messages": [Q, {**A, "content": "wrong", "train": False}, Q, {**A, "content": "right"}]}])
    encoded = encode(source, tokenizer, resolve(None, tokenizer), source.config, tmp_path)
    ids, learn = encoded.tokens(0, *encoded.sides(0)[0])
    text = tokenizer.decode([token for token, on in zip(ids.tolist(), learn.tolist(), strict=True) if on])
    assert text == "right<|im_end|>"


def test_parts_of_text_are_joined_and_others_refused() -> None:
    parts = [{"type": "text", "text": "a "}, {"type": "text", "text": "b", "image_url": None}]
    assert read({"messages": [{**Q, "content": parts}, A]})[0][0].content == "a b"
    image = [*parts, {"type": "image_url", "image_url": {"url": "x"}}]
    assert refused({"messages": [{**Q, "content": image}, A]}) == (
        "field 'messages[0].content[2].type': a part of type 'image_url' is not read; only parts of type text are"
    )
    assert refused({"messages": [Q, {**A, "content": []}]}) == "field 'messages[1].content': is empty"
    cached = [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}]
    assert read({"messages": [{**Q, "content": cached}, A]})[1].unread == {"messages[].content[].cache_control"}


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


WRONG: dict[str, tuple[Any, str]] = {
    "a call of the user": ([{**Q, "tool_calls": [CALL]}, A], "messages[0].tool_calls': only an assistant turn can call functions, and"),
    "a call of the system": ([{"role": "system", "content": "s", "function_call": CALL}, Q, A], "messages[0].function_call': only an"),
    "a name of null": ([Q, call(None)], "messages[1].tool_calls[0].function.name': the name of a function is due and this is null"),
    "a name of 7": ([Q, call(7)], "messages[1].tool_calls[0].function.name': the name of a function is due and this is a number"),
    "an empty name": ([Q, call(" ")], "messages[1].tool_calls[0].function.name': is empty"),
    "half a surrogate pair in a name": ([Q, call("f\ud83d")], "function.name': holds half of a surrogate pair"),
    "half a surrogate pair in arguments": ([Q, call("f", {"x": ["\ud83d"]})], "function.arguments': holds half of a surrogate pair"),
    "half a surrogate pair in a key": ([Q, call("f", {"\ud83d": 1})], "function.arguments': holds half of a surrogate pair"),
    "half a surrogate pair in a text": ([Q, call("f", '{"x": "\\ud83d"}')], "function.arguments': holds half of a surrogate pair"),
    "half a surrogate pair in an id": ([Q, {**A, "tool_calls": [{**CALL, "id": "\ud83d"}]}], "tool_calls[0].id': holds half of a surr"),
    "arguments of 5": ([Q, call("f", 5)], "function.arguments': an object is due and this is a number"),
    "arguments of a list": ([Q, call("f", "[1]")], "function.arguments': an object is due and this is a list"),
    "arguments of broken JSON": ([Q, call("f", '{"x": ')], "function.arguments': is no JSON"),
    "arguments and more": ([Q, call("f", "{} {}")], "function.arguments': is no JSON (more follows at column 3)"),
    "a key twice": ([Q, call("f", '{"x": 1, "x": 2}')], "function.arguments': has the key 'x' twice"),
    "no number": ([Q, call("f", '{"x": NaN}')], "function.arguments': holds nan, which JSON does not have"),
    "deep text": ([Q, call("f", "[" * 2000 + "]" * 2000)], "function.arguments': is no JSON (nested more than 64 deep)"),
    "deep values": ([Q, call("f", {"x": nested(900)})], "function.arguments': is nested more than 64 deep"),
    "calls of 5": ([Q, {**A, "tool_calls": 5}], "messages[1].tool_calls': a list of calls is due and this is a number"),
    "a call of 5": ([Q, {**A, "tool_calls": [5]}], "messages[1].tool_calls[0]': an object {name, arguments} is due and this is a number"),
    "another type": ([Q, {**A, "tool_calls": [{**CALL, "type": "custom"}]}], "tool_calls[0].type': only calls of type function are"),
    "both forms": ([Q, {**A, "tool_calls": [CALL], "function_call": CALL}], "messages[1].function_call': stands beside tool_calls"),
    "a call that is no JSON": ([Q, {"role": "function_call", "content": "f(1)"}], "messages[1].content': is no JSON"),
    "a half flag": ([Q, {**A, "loss_weight": 0.3}], "messages[1].loss_weight': 0.3 is not read: 0 or false leaves the turn"),
    "a flag above 1": ([Q, {**A, "weight": 2}], "messages[1].weight': 2 is not read"),
    "a flag of a word": ([Q, {**A, "train": "maybe"}], "messages[1].train': 'maybe' is not read"),
    "flags that disagree": ([Q, {**A, "train": True, "weight": 0}], "messages[1].weight': leaves the turn unlearned, and train learns"),
    "reasoning of a list": ([Q, {**A, "thinking": ["a"]}], "messages[1].thinking': text is due and this is a list"),
    "lists of two lengths": ({"role": ["user", "assistant"], "content": ["a"]}, "messages': its lists differ in length: role 2, conte"),
    "an object": ({"a": 1}, "messages': a list is due and this is an object"),
    "text after a call": ([Q, call(), A], "messages[2]': two assistant turns follow each other: the first calls a function, and no tool"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_in_a_turn_is_named(name: str) -> None:
    turns, said = WRONG[name]
    assert said in refused({"messages": turns})


WRONG_TOOLS: dict[str, tuple[Any, str]] = {
    "a number": (5, "tools': a list of functions is due and this is a number"),
    "a large number": (1e308, "tools': a list of functions is due and this is a number"),
    "an object": ({"name": "f"}, "tools': a list of functions is due and this is an object"),
    "a list of a list": ([[]], "tools[0]': an object with a name is due and this is a list"),
    "broken JSON": ('[{"broken', "tools': is no JSON"),
    "plain text": ("weather(town)", "tools': is no JSON"),
    "no name": ([{"description": "x"}], "tools[0].name': the name of a function is due and this is null"),
    "an empty name": ([{"function": {"name": ""}}], "tools[0].function.name': is empty"),
    "a function of text": ([{"function": "f"}], "tools[0].function': an object with a name is due and this is text"),
    "deep": ([{"name": "f", "parameters": nested(985)}], "tools[0]': is nested more than 64 deep"),
    "a date": ([{"name": "f", "since": datetime.date(2026, 1, 1)}], "tools[0]': holds a date, which JSON does not have; write it as text"),
    "bytes": ([{"name": "f", "icon": b"\x00"}], "tools[0]': holds bytes, which JSON does not have; write it as text"),
    "a decimal": ([{"name": "f", "price": Decimal("1.5")}], "tools[0]': holds a decimal number, which JSON does not have"),
    "half a surrogate pair": ([{"name": "f", "description": "\udc00"}], "tools[0]': holds half of a surrogate pair"),
}


@pytest.mark.parametrize("name", WRONG_TOOLS)
def test_what_is_wrong_in_the_functions_is_named(name: str) -> None:
    tools, said = WRONG_TOOLS[name]
    assert said in refused({"messages": [Q, A], "tools": tools})


def test_nulls_that_a_columnar_file_adds_are_dropped(tmp_path: Path) -> None:
    def town(name: str, arguments: dict[str, Any], parameters: dict[str, Any]) -> dict[str, Any]:
        calls = [{"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}}]
        turns = [Q, {"role": "assistant", "content": None, "tool_calls": calls}, {"role": "tool", "content": "1", "tool_call_id": "c"}, A]
        return {"messages": turns, "tools": [{"type": "function", "function": {"name": name, "parameters": parameters}}]}

    records = [town("f", {"x": 1}, {"a": {"type": "string"}}), town("g", {"y": [{"z": 2}]}, {"b": {"type": "number"}})]
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "a.parquet")
    source = build(File(path=[str(tmp_path / "a.parquet")]), stage="sft", seed=1)
    assert source.check().unread == {}
    found = [example.messages for example in source.examples()]  # type: ignore[union-attr]
    assert [list(messages) for messages in found] == [list(read(record)[0]) for record in records]  # type: ignore[arg-type]
    assert [m.tools for m in found] == [tuple(record["tools"]) for record in records]  # type: ignore[union-attr]
    kept, _ = read({"messages": [Q, call("f", {"x": None}), {"role": "tool", "content": "1"}, A]})
    assert kept[1].tool_calls[0]["function"]["arguments"] == {"x": None}  # in JSON somebody wrote it


# --- columns


COLUMNS: dict[str, tuple[dict[str, str], dict[str, Any], list[tuple[str, str]], dict[str, int]]] = {
    "input for the question": (
        {"instruction": "input", "output": "output"}, {"input": "a", "output": "b"}, [("user", "a"), ("assistant", "b")], {},
    ),
    "back-translation": (
        {"instruction": "output", "output": "input"}, {"input": "a", "output": "b"}, [("user", "b"), ("assistant", "a")], {},
    ),
    "a swap beside the instruction": (
        {"instruction": "output", "output": "instruction"}, {"instruction": "a", "output": "b"}, [("user", "b"), ("assistant", "a")], {},
    ),
    "a swap that leaves one": (
        {"instruction": "output", "output": "input"}, {"instruction": "c", "input": "a", "output": "b"},
        [("user", "b"), ("assistant", "a")], {"instruction": 1},
    ),
    "history for the question": ({"instruction": "history"}, {"history": "a", "output": "b"}, [("user", "a"), ("assistant", "b")], {}),
    "system for the answer": ({"output": "system"}, {"instruction": "a", "system": "b"}, [("user", "a"), ("assistant", "b")], {}),
    "tools for the question": ({"instruction": "tools"}, {"tools": "a", "output": "b"}, [("user", "a"), ("assistant", "b")], {}),
    "prompt for the answer": (
        {"instruction": "text", "output": "prompt"}, {"text": "a", "prompt": "b"}, [("user", "a"), ("assistant", "b")], {},
    ),
    "a column that is not read": (
        {"instruction": "q", "output": "a", "text": "t"}, {"q": "a", "a": "b", "t": "c"}, [("user", "a"), ("assistant", "b")], {"t": 1},
    ),
    "one column for two fields": (
        {"instruction": "q", "system": "q", "output": "a"}, {"q": "a", "a": "b"}, [("system", "a"), ("user", "a"), ("assistant", "b")], {},
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
    assert (example.messages[-1].content, example.rejected[-1].content) == ("good", "bad")  # type: ignore[union-attr,index]


PROMPT_COMPLETION: dict[str, tuple[dict[str, Any], list[tuple[str, str, bool]]]] = {
    "text": ({"prompt": "a", "completion": " b"}, [("user", "a", True), ("assistant", " b", True)]),
    "messages": ({"prompt": [Q], "completion": [A]}, [("user", "question", True), ("assistant", "answer", True)]),
    "one message": ({"prompt": [Q], "completion": A}, [("user", "question", True), ("assistant", "answer", True)]),
    "messages and text": ({"prompt": [Q], "completion": "b"}, [("user", "question", True), ("assistant", "b", True)]),
    "an earlier answer": (
        {"prompt": [Q, A, Q], "completion": [A]},
        [("user", "question", True), ("assistant", "answer", False), ("user", "question", True), ("assistant", "answer", True)],
    ),
    "a label beside": ({"prompt": "a", "completion": "b", "label": None}, [("user", "a", True), ("assistant", "b", True)]),
    "output": ({"prompt": "a", "output": "b"}, [("user", "a", True), ("assistant", "b", True)]),
    "response to an instruction": ({"instruction": "a", "response": "b"}, [("user", "a", True), ("assistant", "b", True)]),
    "messages by their columns": ({"instruction": [Q], "output": [A]}, [("user", "question", True), ("assistant", "answer", True)]),
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
    "an object of lists": {"messages": {"role": ["user", "assistant"], "content": ["question", "answer"], "tool_calls": [None, None]}},
    "an object of lists of sharegpt": {"conversations": {"from": ["human", "gpt"], "value": ["question", "answer"]}},
    "JSON text": {"messages": json.dumps([Q, A])},
    "a null beside": {"messages": None, "conversations": [Q, A]},
    "roles in capitals": {"messages": [{**Q, "role": "User"}, {**A, "role": "ASSISTANT"}]},
    "roles of OpenAssistant": {"messages": [{"role": "prompter", "text": "question"}, {"role": "assistant", "text": "answer"}]},
}


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_of_a_conversation(name: str, write: Write) -> None:
    source = source_of(write, [SHAPES[name]])
    assert source.check().unread == {}
    assert pairs_of(source) == [[("user", "question"), ("assistant", "answer")]]


def test_objects_of_nulls_are_nothing(write: Write) -> None:
    null_call, null_image = {"function_call": {"name": None, "arguments": None}}, {"image": {"bytes": None, "path": None}}
    source = source_of(write, [{"messages": [{**Q, **null_call, **null_image}, {**A, **null_call}], "image": {"path": None}}])
    assert source.check().unread == {}
    assert pairs_of(source) == [[("user", "question"), ("assistant", "answer")]]


def test_keys_of_a_turn_are_named_like_columns(write: Write) -> None:
    record = {"dialog": [{"speaker": "user", "said": "a", "mood": 1}, {"speaker": "assistant", "said": "b", "mood": 2}]}
    with pytest.raises(DataError, match=r"'messages\[0\]\.role': None is no known role; name the keys of a turn with data\.columns=\{role"):
        source_of(write, [record], columns={"messages": "dialog"}).check()
    source = source_of(write, [record], columns={"messages": "dialog", "role": "speaker", "content": "said"})
    assert source.check().unread == {"messages[].mood": 1}
    assert pairs_of(source) == [[("user", "a"), ("assistant", "b")]]


def test_a_csv_file_with_messages_as_json(write: Write) -> None:
    out = io.StringIO()
    csv.writer(out).writerows([["messages", "tools"], [json.dumps([Q, A]), json.dumps([TOOL])]])
    source = build(File(path=[str(write("a.csv", out.getvalue()))]), stage="sft", seed=1)
    assert source.check().unread == {}
    assert next(source.examples()).messages == read({"messages": [Q, A], "tools": [TOOL]})[0]  # type: ignore[union-attr]


def test_roles_of_the_user_are_read(write: Write) -> None:
    record = {"messages": [{"role": "Customer", "content": "a"}, {"role": "Agent", "content": "b"}]}
    refusal = r"'messages\[0\]\.role': 'Customer' is no known role; name the role that it stands for with data\.roles=\{Customer: user\}"
    with pytest.raises(DataError, match=refusal):
        source_of(write, [record]).check()
    roles = {"Customer": "user", "Agent": "assistant"}
    assert pairs_of(source_of(write, [record], roles=roles)) == [[("user", "a"), ("assistant", "b")]]
    swapped = source_of(write, [{"messages": [{**A}, {**Q}]}], roles={"user": "assistant", "assistant": "user"})
    assert pairs_of(swapped) == [[("user", "answer"), ("assistant", "question")]]
    with pytest.raises(DataError, match=r"data\.roles: Customer is to be usr, which is no role; there are user, assistant"):
        source_of(write, [record], roles={"Customer": "usr"})


# --- what is read as it was meant, and said


def test_numbers_and_booleans_are_read_as_text_and_noted(write: Write) -> None:
    answers = [0, 3.5, True, False, -7]
    source = source_of(write, [{"instruction": "a", "input": "", "output": answer} for answer in answers])
    assert source.check().remarks == {"a number or a boolean read as text": 5}
    assert [talk[-1][1] for talk in pairs_of(source)] == ["0", "3.5", "true", "false", "-7"]
    assert "a number or a boolean read as text (in 5)" in source.checked.words(source)  # type: ignore[union-attr]
    assert read({"messages": [{**Q, "content": Decimal("1.50")}, A]})[0][0].content == "1.50"


@pytest.mark.parametrize("ids", [["x", "x", "x"], ["", "", ""], [-1, -2, True], [1, True, 1.0]])
def test_ids_are_nobodys_business(ids: list[Any], write: Write) -> None:
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
    "instruction beside messages": ({"messages": [Q, A], "instruction": "a", "output": "b"}, {"instruction": 2, "output": 2}),
    "completion beside output": ({"instruction": "a", "output": "b", "completion": "c"}, {"completion": 2}),
    "tools beside functions": ({"messages": [Q, A], "tools": [TOOL], "functions": [TOOL]}, {"functions": 2}),
    "two names of reasoning": ({"messages": [Q, {**A, "thinking": "a", "reasoning_content": "b"}]}, {"messages[].thinking": 2}),
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
    assert list(source.check().remarks) == ["a flag asks to learn a turn that is no answer, which is not learned"]
    assert source_of(write, [{"messages": [{**Q, "weight": 0}, A]}]).check().remarks == {}


def test_fields_remember_what_was_read() -> None:
    fields = Fields({"a": 1, "b": None, "c": 2}, Reading(), "messages[7]")
    assert fields.has("a")
    assert not fields.has("b")
    assert fields.unread() == ["a", "c"]
    assert fields.get("a") == fields["a"] == 1
    fields.note_unread()
    assert fields.reading.unread == {"messages[].c"}


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
def test_detect(name: str) -> None:
    record, stage, format = DETECTED[name]
    assert formats.detect(record, stage) is format


# --- whatever a record holds


BASES: list[Any] = [
    {"messages": [{"role": "system", "content": "s"}, Q, {**call(), "reasoning_content": "r"}, {"role": "tool", "content": "1"}, A],
     "tools": [TOOL]},
    {"conversations": [{"from": "human", "value": "q"}, {"from": "function_call", "value": '{"name": "f", "arguments": {}}'},
                       {"from": "observation", "value": "1"}, {"from": "gpt", "value": "a"}], "system": "s", "tools": '[{"name": "f"}]'},
    {"instruction": "q", "input": "i", "output": "o", "history": [["a", "b"]], "system": "s"}, {"prompt": [Q], "completion": [A]},
    {"prompt": "q", "completion": "a", "label": True}, {"prompt": "q", "chosen": "a", "rejected": "b", "margin": 1},
    {"chosen": [Q, A], "rejected": [Q, {**A, "content": "b"}]}, {"messages": [Q, A], "label": 1}, {"text": "x"}, {"prompt": "x", "n": 1},
    {"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"},
    {"role": ["user", "assistant"], "content": ["q", "a"]}, [Q, A],
]
VALUES: list[Any] = [
    None, True, 0, -1, 0.5, float("nan"), float("inf"), 10**400, 10**5000, "", " ", "x", "\ud800", "\0", "[", "{}", "[]", "[{}]", "null",
    '{"name": 1}', "[" * 3000, [], {}, [[]], [{}], [None], {"a": None}, {"text": None}, {"type": "text"}, {"type": "text", "text": "x"},
    b"x", Decimal("1.5"), Decimal("nan"), Decimal("1e999999"), datetime.date(2020, 1, 1), datetime.timedelta(1), ("a", "b"), [("a", 1)],
    [("a", None)], {1: 2}, {None: 1}, Q, A, [Q], [A], CALL, [CALL], "tool", "assistant", nested(2000),
]
KEYS = ["messages", "prompt", "completion", "label", "tools", "role", "from", "content", "value", "tool_calls", "function_call", "weight",
        "train", "name", "thinking", "system", "history", "input", "images"]


def places_in(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) and len(at) < 8 else ()
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
                record, random.choice(places_in(record)), random.choice(VALUES), random.choice(KEYS) if random.random() < 0.3 else None,
            )
        for stage in ("sft", "dpo", "kto", "grpo", "pt"):
            format = formats.detect(record, stage) or random.choice([format for format in Format if format is not Format.auto])
            reading = Reading(columnar=random.random() < 0.5)
            try:
                made = _convert(formats.rename(record, {}, reading), format)
            except Wrong as wrong:
                refusals.append(str(wrong))
                continue
            read += 1
            for message in made.get("messages") or ():
                message.content.encode()
                json.dumps([dict(one) for one in message.tool_calls], allow_nan=False).encode()
            json.dumps([dict(tool) for tool in (made["messages"].tools if made.get("messages") else ())], allow_nan=False).encode()
    assert min(read, len(refusals)) > 200
    assert not [line for line in refusals if "\n" in line or len(line) > 1000]
