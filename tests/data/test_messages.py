"""A turn keeps its calls, reasoning, names and flags, and what is wrong in it is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.data.made_records import CALL, TOOL, A, Q, Write, call, nested, read, refused, source_of

from fulgurite.data.build import build_source
from fulgurite.data.config import File
from fulgurite.data.example import Conversation, Message


def test_a_message_keeps_calls_reasoning_names_and_tools() -> None:
    answer = {"role": "assistant", "content": "", "reasoning_content": "look it up", "tool_calls": [CALL]}
    result = {"role": "tool", "content": '{"sky": "clear"}', "name": "weather", "tool_call_id": "c1"}
    messages, reading = read({"tools": [TOOL], "messages": [{**Q, "name": "ann"}, answer, result, A]})
    assert messages == Conversation((
        Message("user", "question", name="ann"), Message("assistant", "", (CALL,), "look it up"),
        Message("tool", '{"sky": "clear"}', name="weather", call_id="c1"), Message("assistant", "answer"),
    ), (TOOL,))
    assert (reading.unread, reading.remarks) == (set(), set())


@pytest.mark.parametrize("key", ["reasoning_content", "thinking", "reasoning"])
def test_reasoning_under_each_of_its_names(key: str) -> None:
    messages, reading = read({"messages": [Q, {**A, key: "because"}]})
    assert (messages[1].reasoning, messages[1].content, reading.unread) == ("because", "answer", set())
    assert read({"messages": [{**Q, key: "because"}, A]})[1].unread == {f"messages[].{key}"}


@pytest.mark.parametrize("flag", ["train", "loss", "weight", "loss_weight"])
@pytest.mark.parametrize(("value", "learned"),
    [(0, False), (False, False), (0.0, False), (1, True), (True, True), (None, True)])
def test_a_flag_decides_whether_a_turn_is_learned(flag: str, value: Any, learned: bool) -> None:
    messages, reading = read({"messages": [Q, {**A, flag: value}, Q, A]})
    assert [m.learned for m in messages] == [True, learned, True, True]
    assert reading.unread == set()


def test_a_masked_answer_gets_no_label(write: Write, tokenizer: Any, tmp_path: Path) -> None:
    from fulgurite.data.template import load_template
    from fulgurite.data.tokenized import tokenize_source

    source = source_of(
        write, [{"messages": [Q, {**A, "content": "wrong", "train": False}, Q, {**A, "content": "right"}]}]
    )
    encoded = tokenize_source(source, tokenizer, load_template(None, tokenizer), source.config, tmp_path)
    ids, learn = encoded.tokens(0, *encoded.sides(0)[0])
    text = tokenizer.decode([token for token, on in zip(ids.tolist(), learn.tolist(), strict=True) if on])
    assert text == "right<|im_end|>"


def test_parts_of_text_are_joined_and_others_refused() -> None:
    parts = [{"type": "text", "text": "a "}, {"type": "text", "text": "b", "image_url": None}]
    assert read({"messages": [{**Q, "content": parts}, A]})[0][0].content == "a b"
    image = [*parts, {"type": "image_url", "image_url": {"url": "x"}}]
    assert refused({"messages": [{**Q, "content": image}, A]}) == (
        "field 'messages[0].content[2].type': expected a part of type text, found type 'image_url'"
    )
    assert refused({"messages": [Q, {**A, "content": []}]}) == "field 'messages[1].content': is empty"
    cached = [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}]
    assert read({"messages": [{**Q, "content": cached}, A]})[1].unread == {"messages[].content[].cache_control"}


WRONG: dict[str, tuple[Any, str]] = {
    "a call of the user": ([{**Q, "tool_calls": [CALL]}, A],
        "messages[0].tool_calls': only an assistant turn can call functions, but"),
    "a call of the system": ([{"role": "system", "content": "s", "function_call": CALL}, Q, A],
        "messages[0].function_call': only an"),
    "a name of null": ([Q, call(None)],
        "messages[1].tool_calls[0].function.name': expected the name of a function, found null"),
    "a name of 7": ([Q, call(7)],
        "messages[1].tool_calls[0].function.name': expected the name of a function, found a number"),
    "an empty name": ([Q, call(" ")], "messages[1].tool_calls[0].function.name': is empty"),
    "half a surrogate pair in a name": ([Q, call("f\ud83d")], "function.name': contains half of a surrogate pair"),
    "half a surrogate pair in arguments": ([Q, call("f", {"x": ["\ud83d"]})],
        "function.arguments': contains half of a surrogate pair"),
    "half a surrogate pair in a key": ([Q, call("f", {"\ud83d": 1})],
        "function.arguments': contains half of a surrogate pair"),
    "half a surrogate pair in a text": ([Q, call("f", '{"x": "\\ud83d"}')],
        "function.arguments': contains half of a surrogate pair"),
    "half a surrogate pair in an id": ([Q, {**A, "tool_calls": [{**CALL, "id": "\ud83d"}]}],
        "tool_calls[0].id': contains half of a surr"),
    "arguments of 5": ([Q, call("f", 5)], "function.arguments': expected an object, found a number"),
    "arguments of a list": ([Q, call("f", "[1]")], "function.arguments': expected an object, found a list"),
    "arguments of broken JSON": ([Q, call("f", '{"x": ')], "function.arguments': is not JSON"),
    "arguments and more": ([Q, call("f", "{} {}")], "function.arguments': is not JSON (more text follows at column 3)"),
    "a key twice": ([Q, call("f", '{"x": 1, "x": 2}')], "function.arguments': has the key 'x' twice"),
    "no number": ([Q, call("f", '{"x": NaN}')], "function.arguments': contains nan, which JSON does not have"),
    "deep text": ([Q, call("f", "[" * 2000 + "]" * 2000)],
        "function.arguments': is not JSON (nested more than 64 levels deep)"),
    "deep values": ([Q, call("f", {"x": nested(900)})], "function.arguments': is nested more than 64 levels deep"),
    "calls of 5": ([Q, {**A, "tool_calls": 5}], "messages[1].tool_calls': expected a list of calls, found a number"),
    "a call of 5": ([Q, {**A, "tool_calls": [5]}],
        "messages[1].tool_calls[0]': expected an object {name, arguments}, found a number"),
    "another type": ([Q, {**A, "tool_calls": [{**CALL, "type": "custom"}]}],
        "tool_calls[0].type': only calls of type function are"),
    "both forms": ([Q, {**A, "tool_calls": [CALL], "function_call": CALL}],
        "messages[1].function_call': the turn has tool_calls too"),
    "a call that is not JSON": ([Q, {"role": "function_call", "content": "f(1)"}], "messages[1].content': is not JSON"),
    "a half flag": ([Q, {**A, "loss_weight": 0.3}],
        "messages[1].loss_weight': expected 0 or false (the turn is not learned)"),
    "a flag above 1": ([Q, {**A, "weight": 2}], "messages[1].weight': expected 0 or false (the turn is not learned)"),
    "a flag of a word": ([Q, {**A, "train": "maybe"}],
        "messages[1].train': expected 0 or false (the turn is not learned)"),
    "flags that disagree": ([Q, {**A, "train": True, "weight": 0}],
        "messages[1].weight': excludes the turn from learning, but train includes"),
    "reasoning of a list": ([Q, {**A, "thinking": ["a"]}], "messages[1].thinking': expected text, found a list"),
    "lists of two lengths": ({"role": ["user", "assistant"], "content": ["a"]},
        "messages': its lists differ in length: role 2, conte"),
    "an object": ({"a": 1}, "messages': expected a list, found an object"),
    "text after a call": ([Q, call(), A],
        "messages[2]': two assistant turns in a row: the first calls a function, but no tool"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_in_a_turn_is_named(name: str) -> None:
    turns, said = WRONG[name]
    assert said in refused({"messages": turns})


def test_nulls_that_a_columnar_file_adds_are_dropped(tmp_path: Path) -> None:
    def town(name: str, arguments: dict[str, Any], parameters: dict[str, Any]) -> dict[str, Any]:
        calls = [{"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}}]
        turns = [Q, {"role": "assistant", "content": None, "tool_calls": calls},
            {"role": "tool", "content": "1", "tool_call_id": "c"}, A]
        return {"messages": turns,
            "tools": [{"type": "function", "function": {"name": name, "parameters": parameters}}]}

    records = [town("f", {"x": 1}, {"a": {"type": "string"}}), town("g", {"y": [{"z": 2}]}, {"b": {"type": "number"}})]
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "a.parquet")
    source = build_source(File(path=[str(tmp_path / "a.parquet")]), stage="sft", seed=1)
    assert source.check().unread == {}
    found = [example.messages for example in source.examples()]  # type: ignore[union-attr]
    assert [list(messages) for messages in found] == [list(read(record)[0])
        for record in records]  # type: ignore[arg-type]
    assert [m.tools for m in found] == [tuple(record["tools"]) for record in records]  # type: ignore[union-attr]
    kept, _ = read({"messages": [Q, call("f", {"x": None}), {"role": "tool", "content": "1"}, A]})
    assert kept[1].tool_calls[0]["function"]["arguments"] == {"x": None}  # in JSON somebody wrote it
