"""Calls of functions and the functions that may be called: every form is one structure."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import pytest
from tests.data.made_records import A, Q, Write, nested, read, refused, source_of

from fulgurite.data.example import Message
from fulgurite.data.tool_calls import OWN_ARGUMENTS, format_call
from fulgurite.errors import DataError

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
    assert messages[1] == Message(
        "assistant", "", ({"type": "function", "function": {"name": "f", "arguments": {"x": 1}}},)
    )
    assert reading.unread == set()


@pytest.mark.parametrize("given",
    [[{"name": "f"}], '[{"name": "f"}]', [{"type": "function", "function": {"name": "f"}}]])
@pytest.mark.parametrize("name", ["tools", "functions"])
def test_every_form_of_the_functions_is_one_structure(name: str, given: Any) -> None:
    messages, _ = read({"messages": [Q, A], name: given})
    assert messages.tools == ({"type": "function", "function": {"name": "f"}},)


@pytest.mark.parametrize("given", [None, "", "[]", []])
def test_no_functions_in_any_form(given: Any) -> None:
    assert read({"messages": [Q, A], "tools": given})[0].tools == ()


WRONG_TOOLS: dict[str, tuple[Any, str]] = {
    "a number": (5, "tools': expected a list of functions, found a number"),
    "a large number": (1e308, "tools': expected a list of functions, found a number"),
    "an object": ({"name": "f"}, "tools': expected a list of functions, found an object"),
    "a list of a list": ([[]], "tools[0]': expected an object with a name, found a list"),
    "broken JSON": ('[{"broken', "tools': is not JSON"),
    "plain text": ("weather(town)", "tools': is not JSON"),
    "no name": ([{"description": "x"}], "tools[0].name': expected the name of a function, found null"),
    "an empty name": ([{"function": {"name": ""}}], "tools[0].function.name': is empty"),
    "a function of text": ([{"function": "f"}], "tools[0].function': expected an object with a name, found text"),
    "deep": ([{"name": "f", "parameters": nested(985)}], "tools[0]': is nested more than 64 levels deep"),
    "a date": ([{"name": "f", "since": datetime.date(2026, 1, 1)}],
        "tools[0]': contains a date, which JSON does not have; write it as text"),
    "bytes": ([{"name": "f", "icon": b"\x00"}],
        "tools[0]': contains bytes, which JSON does not have; write it as text"),
    "a decimal": ([{"name": "f", "price": Decimal("1.5")}],
        "tools[0]': contains a decimal number, which JSON does not have"),
    "half a surrogate pair": ([{"name": "f", "description": "\udc00"}], "tools[0]': contains half of a surrogate pair"),
}


@pytest.mark.parametrize("name", WRONG_TOOLS)
def test_what_is_wrong_in_the_functions_is_named(name: str) -> None:
    tools, said = WRONG_TOOLS[name]
    assert said in refused({"messages": [Q, A], "tools": tools})


@pytest.mark.parametrize("stage", ["sft", "dpo", "kto", "grpo"])
@pytest.mark.parametrize("given", [{"enable_thinking": False}, '{"enable_thinking": false}'])
def test_arguments_of_the_template_in_a_record(given: Any, stage: str, write: Write) -> None:
    record: dict[str, Any] = {"prompt": [Q], "completion": [A], "label": True}
    if stage in ("dpo", "grpo"):
        record = {"prompt": [Q]} | ({"chosen": [A], "rejected": [{**A, "content": "hello"}]} if stage == "dpo" else {})
    source = source_of(
        write, [record | {"chat_template_kwargs": given}, record | {"chat_template_kwargs": None}], stage
    )
    assert source.check().remarks == {OWN_ARGUMENTS: 1}
    assert "chat_template_kwargs" not in source.check().unread
    sides = [[side.arguments for side in (e.messages, e.rejected) if side]
        for e in source.examples()]  # type: ignore[union-attr]
    count = 2 if stage == "dpo" else 1
    assert sides == [[{"enable_thinking": False}] * count, [{}] * count]


@pytest.mark.parametrize(("given", "said"), [
    ({"tools": []}, "'chat_template_kwargs.tools': Fulgurite sets this argument for each conversation"),
    ([1], "expected an object, found a list"),
    ({"a b": 1}, "is not a valid argument name"),
])
def test_wrong_arguments_of_the_template_are_refused(given: Any, said: str, write: Write) -> None:
    with pytest.raises(DataError, match=said):
        source_of(write, [{"messages": [Q, A], "chat_template_kwargs": given}]).check()


@pytest.mark.parametrize(("arguments", "shown"), [
    ({}, "f()"), ({"x": "a \"b\"", "n": 1, "o": {"k": [None]}}, 'f(x="a \\"b\\"", n=1, o={"k": [null]})'),
    ("text", 'f("text")'), (None, "f(null)"), ({"x": "é"}, 'f(x="é")'),
])
def test_a_call_is_shown_on_one_line(arguments: Any, shown: str) -> None:
    assert format_call({"function": {"name": "f", "arguments": arguments}}) == shown
