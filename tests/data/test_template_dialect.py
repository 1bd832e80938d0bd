"""A template gets a message as transformers would hand it over, and what it has no place for as text."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.data.made_templates import STYLES

from fulgurite.data.example import Conversation, Message, from_dicts, to_dicts
from fulgurite.data.template import Template, load_template
from fulgurite.data.template_dialect import CALLS_AS_TEXT, REASONING_AS_TEXT, SYSTEM_MOVED

TOOL = {"type": "function", "function": {
    "name": "weather", "description": "the weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}}
CALL = {"type": "function", "id": "abcdefghi", "function": {"name": "weather", "arguments": {"city": "Zürich \"old\""}}}
TALK = Conversation((
    Message("system", "Be brief."), Message("user", "How is Zürich?"), Message("assistant", "", (CALL,)),
    Message("tool", '{"sky": "blue"}', name="weather", call_id="abcdefghi"), Message("assistant", "Blue."),
), (TOOL,))


def made(style: str, make_tokenizer: Any) -> Template:
    text, marks = STYLES[style]
    tokenizer = make_tokenizer(marks)
    tokenizer.chat_template = text
    return load_template(None, tokenizer)


@pytest.mark.parametrize("style", sorted(STYLES))
@pytest.mark.parametrize("end", [2, 4])
def test_a_prompt_with_tools_is_that_of_transformers(style: str, end: int, make_tokenizer: Any) -> None:
    template = made(style, make_tokenizer)
    theirs = template.tokenizer.apply_chat_template(
        to_dicts(TALK[:end]), tools=[TOOL], add_generation_prompt=True
    )["input_ids"]
    assert template.encode_prompt(TALK[:end]) == theirs
    assert "weather" in template.tokenizer.decode(theirs)
    assert not template.dialect.flags(TALK)


@pytest.mark.parametrize("style", sorted(STYLES))
def test_a_whole_conversation_is_that_of_transformers(style: str, make_tokenizer: Any) -> None:
    template = made(style, make_tokenizer)
    assert template.text(TALK, False) == template.tokenizer.apply_chat_template(
        to_dicts(TALK), tools=[TOOL], tokenize=False
    )


def test_arguments_as_text_are_read_as_the_object_that_they_are(make_tokenizer: Any) -> None:
    template = made("qwen2.5", make_tokenizer)
    function = {"name": "weather", "arguments": json.dumps(CALL["function"]["arguments"])}  # type: ignore[index]
    other = Conversation(
        (*TALK[:2], Message("assistant", "", ({**CALL, "function": function},)), *TALK[3:]), TALK.tools
    )
    assert template.text(other, False) == template.text(TALK, False)


def test_a_template_that_joins_arguments_as_text_gets_text(tokenizer: Any) -> None:
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role + ': ' }}{% if m.tool_calls %}{{ m.tool_calls[0].function.name + ' ' + "
        "m.tool_calls[0].function.arguments }}{% else %}{{ m.content }}{% endif %}{{ eos_token }}{% endfor %}"
    )
    template = load_template(None, tokenizer)
    assert template.dialect.calls == "text"
    assert 'weather {"city": "Zürich \\"old\\""}</s>' in template.text(TALK[:3], False)


def test_a_template_without_branches_gets_text(tokenizer: Any) -> None:
    template = load_template("chatml", tokenizer)
    text = template.text(TALK, False)
    listed = json.dumps([TOOL], ensure_ascii=False)
    assert f"<|im_start|>system\nBe brief.\n\nYou may call these functions:\n{listed}<|im_end|>" in text
    called = json.dumps({"name": "weather", "arguments": {"city": 'Zürich "old"'}}, ensure_ascii=False)
    assert f"<|im_start|>assistant\n{called}<|im_end|>" in text
    assert template.dialect.flags(TALK) == CALLS_AS_TEXT
    assert template.dialect.flags(Conversation(TALK.messages[:2])) == 0


def test_functions_without_a_system_message_make_one(tokenizer: Any) -> None:
    text = load_template("chatml", tokenizer).text(Conversation((Message("user", "Hi"),), (TOOL,)), True)
    assert text.startswith("<|im_start|>system\nYou may call these functions:\n")


@pytest.mark.parametrize("key", ["reasoning_content", "thinking", "reasoning"])
def test_reasoning_goes_under_the_name_that_the_template_reads(key: str, tokenizer: Any) -> None:
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role + ':' + ('(' + m." + key + " + ')' if m." + key + " is defined else '') + "
        "m.content + eos_token }}{% endfor %}"
    )
    template = load_template(None, tokenizer)
    messages = [Message("user", "1?"), Message("assistant", "2", reasoning="one and one")]
    assert template.text(messages, False) == "user:1?</s>assistant:(one and one)2</s>"
    assert not template.dialect.flags(messages)


def test_reasoning_that_the_template_does_not_read_is_written_before_the_answer(tokenizer: Any) -> None:
    template = load_template("chatml", tokenizer)
    messages = [Message("user", "1?"), Message("assistant", "2", reasoning="one and one")]
    assert "assistant\n<think>\none and one\n</think>\n\n2<|im_end|>" in template.text(messages, False)
    assert template.dialect.flags(messages) == REASONING_AS_TEXT


def test_the_first_user_turn_takes_a_system_message_that_is_refused(tokenizer: Any) -> None:
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif "
        "%}"
        "{{ m.role + ':' + m.content + eos_token }}{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
    )
    template = load_template(None, tokenizer)
    messages = [Message("system", "Be brief."), Message("user", "1?"), Message("assistant", "2")]
    assert template.text(messages, False) == "user:Be brief.\n\n1?</s>assistant:2</s>"
    assert template.dialect.flags(messages) == SYSTEM_MOVED
    assert template.dialect.flags(messages[1:]) == 0


def test_content_as_parts_for_a_template_that_would_leave_text_out(tokenizer: Any) -> None:
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role + ':' }}{% for part in m.content %}{% if part.type == 'text' %}{{ part.text "
        "}}{% endif %}"
        "{% endfor %}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
    )
    template = load_template(None, tokenizer)
    assert template.text([Message("user", "1?"), Message("assistant", "2")], False) == "user:1?</s>assistant:2</s>"


def test_messages_as_dicts_and_back() -> None:
    assert to_dicts([Message("user", "a")]) == [{"role": "user", "content": "a"}]
    assert tuple(from_dicts(to_dicts(TALK))) == TALK.messages
