"""Messages, conversations and bad records: what a slice keeps, what dictionaries keep, how an error reads."""

from __future__ import annotations

import pytest

from fulgurite.data.example import Bad, Conversation, Message, Place, from_dicts, shorten, to_dicts

CALL = {"type": "function", "id": "c", "function": {"name": "f", "arguments": {"x": 1}}}
TURNS = (
    Message("system", "s"), Message("user", "q", name="ann"), Message("assistant", "", (CALL,), "because"),
    Message("tool", "1", name="f", call_id="c"), Message("assistant", "a"),
)


def test_messages_become_dictionaries_of_the_chat_format_and_come_back() -> None:
    found = to_dicts(TURNS)
    assert found == [
        {"role": "system", "content": "s"}, {"role": "user", "content": "q", "name": "ann"},
        {"role": "assistant", "content": "", "tool_calls": [CALL], "reasoning_content": "because"},
        {"role": "tool", "content": "1", "name": "f", "tool_call_id": "c"}, {"role": "assistant", "content": "a"},
    ]
    assert tuple(from_dicts(found)) == TURNS
    assert from_dicts([{"role": "user", "content": None, "tool_calls": None}]) == [Message("user", "")]


def test_a_slice_of_a_conversation_keeps_functions_and_arguments() -> None:
    whole = Conversation(TURNS, ({"name": "f"},), {"x": 1})
    part = whole[1:3]
    assert (part.messages, part.tools, part.arguments) == (TURNS[1:3], whole.tools, whole.arguments)
    assert (whole[-1], len(whole), list(whole)) == (TURNS[-1], 5, list(TURNS))
    assert Conversation.of(whole) is whole
    assert Conversation.of(iter(TURNS)) == Conversation(TURNS)


def test_a_bad_record_is_place_field_and_reason() -> None:
    assert str(Bad(Place("a.jsonl", 3), "output", "is empty")) == "a.jsonl:3: field 'output': is empty"
    long = str(Bad(Place("a.jsonl", 3), "k" * 500, "r" * 5000))
    assert long == f"a.jsonl:3: field '{'k' * 80}… (500 characters)': {'r' * 1000}… (5,000 characters)"


@pytest.mark.parametrize(("text", "most", "short"),
    [("abc", 3, "abc"), ("abcd", 3, "abc… (4 characters)"), ("", 0, "")])
def test_a_long_text_is_cut_and_counted(text: str, most: int, short: str) -> None:
    assert shorten(text, most) == short
