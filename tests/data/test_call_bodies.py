"""Bodies of generated calls, and every way in which they are damaged."""

from __future__ import annotations

from typing import Any

import pytest

from fulgurite.data.call_bodies import BrokenBody, ParsedCall
from fulgurite.data.call_forms import FORMS
from fulgurite.data.call_parser import parse_calls

BY_NAME = {form.name: form for form in FORMS}
TOOLS = [{"name": "f", "parameters": {"properties": {
    "text": {"type": "string"}, "n": {"type": "integer"}, "either": {"type": ["string", "integer"]},
    "any": {"anyOf": [{"type": "number"}, {"type": "null"}]}, "on": {"type": "boolean"},
}}}]


def tagged(**values: str) -> str:
    pairs = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in values.items())
    return f"<tool_call>\n<function=f>\n{pairs}</function>\n</tool_call>"


def hermes(body: str) -> str:
    return f"<tool_call>\n{body}\n</tool_call>"


@pytest.mark.parametrize(("key", "value", "expected"), [
    ("text", "75001", "75001"), ("text", " two\nlines ", " two\nlines "), ("text", "true", "true"), ("n", "5", 5),
    ("n", "five", "five"), ("either", "5", 5), ("either", "5.5", "5.5"), ("either", "true", "true"),
    ("any", "0.5", 0.5), ("any", "None", None), ("on", "True", True), ("on", "false", False),
    ("unknown", "75001", 75001), ("unknown", "[1, {}]", [1, {}]), ("unknown", "a word", "a word"), ("text", "", ""),
])
def test_a_value_without_quotes_has_its_declared_type(key: str, value: str, expected: Any) -> None:
    parsed = parse_calls(BY_NAME["parameters in tags"], tagged(**{key: value}), TOOLS)
    assert parsed.calls == [ParsedCall("f", {key: expected})]
    assert type(parsed.calls[0].arguments[key]) is type(expected)


@pytest.mark.parametrize("body", [
    '{"name": "f", "arguments": {"n": 1}}', '{"name": "f", "parameters": {"n": 1}}',
    '[{"name": "f", "arguments": {"n": 1}}]',
    '{"type": "function", "function": {"name": "f", "arguments": {"n": 1}}}',
    '{"name": "f", "arguments": "{\\"n\\": 1}"}', '{"arguments": {"n": 1}, "name": " f "}',
    '{"tool_name": "f", "parameters": {"n": 1}}',
])
def test_every_form_of_an_object_is_the_same_call(body: str) -> None:
    assert parse_calls(BY_NAME["json in tags"], hermes(body)).calls == [ParsedCall("f", {"n": 1})]


def test_a_call_without_arguments_has_none() -> None:
    for body in ('{"name": "f"}', '{"name": "f", "arguments": null}', '{"name": "f", "arguments": ""}'):
        assert parse_calls(BY_NAME["json in tags"], hermes(body)).calls == [ParsedCall("f", {})]


def test_an_id_is_kept() -> None:
    call = ParsedCall("f", {"n": 1}, "abcdefghi")
    written = '[TOOL_CALLS][{"name": "f", "arguments": {"n": 1}, "id": "abcdefghi"}]'
    assert parse_calls(BY_NAME["mistral"], written).calls == [call]
    assert call.to_dict() == {
        "type": "function", "id": "abcdefghi", "function": {"name": "f", "arguments": {"n": 1}},
    }
    assert "id" not in ParsedCall("f", {}).to_dict()


DAMAGED = {
    "no JSON": ('{"name": "f", arguments}', "not JSON"),
    "a missing brace": ('{"name": "f", "arguments": {"n": 1}', "not JSON"),
    "a brace too many": ('{"name": "f", "arguments": {"n": 1}}}', "more text follows before the end of the call"),
    "nothing": ("", "not JSON"),
    "a number": ("5", "expected an object {name, arguments}, found a number"),
    "no name": ('{"arguments": {}}', "expected the name of a function, found null"),
    "an empty name": ('{"name": " ", "arguments": {}}', "is empty"),
    "a list of arguments": ('{"name": "f", "arguments": [1]}', "expected an object, found a list"),
    "arguments as broken text": ('{"name": "f", "arguments": "{x"}', "is not JSON"),
    "a key twice": ('{"name": "f", "arguments": {"n": 1, "n": 2}}', "the key 'n' twice"),
    "not a number": ('{"name": "f", "arguments": {"n": NaN}}', "which JSON does not have"),
    "half of a surrogate pair": ('{"name": "f", "arguments": {"n": "\\ud800"}}', "half of a surrogate pair"),
    "too deep": ('{"name": "f", "arguments": {"n": ' + "[" * 2000 + "]" * 2000 + "}}", "levels deep"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_body_is_marked_and_the_next_call_is_read(case: str) -> None:
    body, reason = DAMAGED[case]
    good = hermes('{"name": "g", "arguments": {}}')
    parsed = parse_calls(BY_NAME["json in tags"], f"Before.\n{hermes(body)}\n{good}\nAfter.")
    assert parsed.calls == [ParsedCall("g", {})]
    assert [damaged.text for damaged in parsed.damaged] == [hermes(body)]
    assert reason in str(parsed.damaged[0].reason)
    assert parsed.text == f"Before.\n{hermes(body)}\nAfter."


@pytest.mark.parametrize(("form", "written", "reason"), [
    ("parameters in tags", "<tool_call>\n<function=f>\nplain\n</function>\n</tool_call>", "expected a parameter"),
    ("parameters in tags", tagged(n="1").replace("</function>", "<parameter=n>\n2\n</parameter>\n</function>"),
     "the parameter n occurs twice"),
    ("parameters in tags", "<tool_call>f(1)</tool_call>", "does not begin with the name of a function"),
    ("gemma", "<|tool_call>call:f{n:}<tool_call|>", "is not JSON"),
    ("gemma", '<|tool_call>call:f{n:<|"|>a', "ends inside the call"),
    ("lfm", "<|tool_call_start|>[f(n=g())]<|tool_call_end|>", "not a Python call"),
    ("lfm", "<|tool_call_start|>[f(1)]<|tool_call_end|>", "not a Python call"),
    ("lfm", "<|tool_call_start|>[5]<|tool_call_end|>", "not a Python call"),
    ("lfm", "<|tool_call_start|>[f(**{})]<|tool_call_end|>", "not a Python call"),
    ("lfm", "<|tool_call_start|>[f(", "ends inside the call"),
    ("json", '{"name": "f", "arguments": {"n": 1', "not JSON"),
])
def test_every_reader_marks_damage(form: str, written: str, reason: str) -> None:
    parsed = parse_calls(BY_NAME[form], written, TOOLS)
    assert parsed.calls == []
    # The text after the last call of a list is skipped.
    assert [damaged.text for damaged in parsed.damaged] in ([written], [written.removesuffix("\n</tool_call>")])
    assert reason in str(parsed.damaged[0].reason)


def test_a_broken_body_has_its_place() -> None:
    with pytest.raises(BrokenBody) as found:
        BY_NAME["json in tags"].read('{"name" 5 and more than a few words}', 0, None, None)  # type: ignore[arg-type]
    assert (found.value.at, found.value.final) == (8, True)
