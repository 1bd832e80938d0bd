"""Calls in generated text: what is released when."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.data.made_templates import HERMES, QWEN3, made
from transformers.utils.chat_parsing import parse_response

from fulgurite.data.call_bodies import ParsedCall
from fulgurite.data.call_forms import FORMS
from fulgurite.data.call_parser import CallParser, DamagedCall, parse_calls
from fulgurite.data.example import Message

BY_NAME = {form.name: form for form in FORMS}
HERMES_FORM = BY_NAME["json in tags"]
F = ParsedCall("f", {"n": 1})
WRITTEN = '<tool_call>\n{"name": "f", "arguments": {"n": 1}}\n</tool_call>'
TOOL: dict[str, Any] = {"type": "function", "function": {"name": "f", "description": "a function", "parameters": {
    "type": "object", "properties": {"n": {"type": "integer", "description": "a number"}},
}}}


def test_text_is_released_as_soon_as_it_is_surely_no_call() -> None:
    parser = CallParser(HERMES_FORM)
    assert parser.feed("Hello <b") == ["Hello <b"]
    assert parser.feed(" there <tool") == [" there"]
    assert parser.feed("s> and") == [" <tools> and"]
    assert parser.feed("\n\n<tool_call>") == []
    assert parser.feed('\n{"name": "f", "arguments": {"n": 1}}') == []
    assert parser.feed("\n</tool_call>") == [F]
    assert parser.feed("\nDone") == ["Done"]
    assert parser.finish() == []


def test_what_is_held_back_is_released_at_the_end() -> None:
    parser = CallParser(HERMES_FORM)
    assert parser.feed("a <tool") == ["a"]
    assert parser.finish() == [" <tool"]
    assert parse_calls(HERMES_FORM, "a  ").text == "a"


def test_an_answer_may_end_before_the_closing() -> None:
    assert parse_calls(HERMES_FORM, WRITTEN.removesuffix("</tool_call>")).calls == [F]
    assert parse_calls(HERMES_FORM, WRITTEN.removesuffix("</tool_call>") + WRITTEN).calls == [F, F]


@pytest.mark.parametrize("text", [
    "", "No call.", '{"name": "Bob", "age": 3}', "a < b", 'x = {"name": "f", "arguments": {}}',
])
@pytest.mark.parametrize("form", [*BY_NAME, None])
def test_text_without_a_call_stays_as_it_is(form: str | None, text: str) -> None:
    parser = CallParser(BY_NAME[form] if form else None)
    assert "".join(map(str, [*parser.feed(text), *parser.finish()])) == text


def test_a_call_in_a_thought_is_none() -> None:
    for thinking, text in ((False, f"<think>\nI call {WRITTEN}\n</think>"), (True, f"I call {WRITTEN}\n</think>")):
        for step in (1, 1000):
            parser = CallParser(HERMES_FORM, thinking=thinking)
            whole = f"{text}\n{WRITTEN}"
            pieces = [p for n in range(0, len(whole), step) for p in parser.feed(whole[n : n + step])] + parser.finish()
            assert [p for p in pieces if not isinstance(p, str)] == [F]
            assert "".join(p for p in pieces if isinstance(p, str)).rstrip() == text


def test_hidden_texts_are_left_out() -> None:
    for step in (1, 5, 100):
        parser = CallParser(BY_NAME["mistral"], hidden=["</s>", "[TOOL_CALLS]", "[CALL"])
        whole = 'One </s>two [CALL\n[TOOL_CALLS][{"name": "f", "arguments": {"n": 1}}]</s>'
        pieces = [p for n in range(0, len(whole), step) for p in parser.feed(whole[n : n + step])] + parser.finish()
        assert "".join(p for p in pieces if isinstance(p, str)).rstrip() == "One two"
        assert [p for p in pieces if not isinstance(p, str)] == [F]


def test_it_never_raises() -> None:
    parts = [
        "<tool_call>", "</tool_call>", '{"name": "f"', ', "arguments": {', "}", "}", "<think>", "text", "\ud800", '"',
    ]
    for form in FORMS:
        for seed in range(60):
            text = "".join(parts[(seed * 7 + n * (seed + 3)) % len(parts)] for n in range(9))
            parsed = parse_calls(form, text)
            assert parsed.text.replace("\n", "") or parsed.calls or not text.strip()


@pytest.mark.parametrize("form", BY_NAME)
def test_many_blanks_are_held_back(form: str) -> None:
    """A model that writes line breaks without an end: a pattern that begins with blanks would be searched from each of
    them again, for each piece."""
    parser = CallParser(BY_NAME[form], hidden=["</s>"])
    assert parser.feed("Yes.") == ["Yes."]
    assert [piece for _ in range(1500) for piece in parser.feed("\n \n")] == []
    assert parser.finish() == ["\n \n" * 1500]


def test_a_template_reads_its_own_answers(make_tokenizer: Callable[..., Any]) -> None:
    template = made(HERMES, make_tokenizer)
    answer = template.answer(f"Let me look.\n{WRITTEN}<|im_end|>", [TOOL])
    assert answer == Message("assistant", "Let me look.", (F.to_dict(),))
    assert template.answer(WRITTEN).content == WRITTEN
    broken = template.answer('<tool_call>\n{"name": f}\n</tool_call>', [TOOL])
    assert broken.content == '<tool_call>\n{"name": f}\n</tool_call>'
    thought = made(QWEN3, make_tokenizer).answer(f"<think>\nhm {WRITTEN}\n</think>\n\n{WRITTEN}", [TOOL])
    assert (thought.content, thought.reasoning, len(thought.tool_calls)) == ("", f"hm {WRITTEN}", 1)


def test_a_template_without_calls_reads_them_as_text(make_tokenizer: Callable[..., Any]) -> None:
    template = made(
        "{% for m in messages %}{{ m.role + ':' + m.content + eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}", make_tokenizer,
    )
    answer = template.answer('Let me look.\n{"name": "f", "arguments": {"n": 1}}', [TOOL])
    assert answer == Message("assistant", "Let me look.", (F.to_dict(),))


def test_what_transformers_reads_too_is_the_same() -> None:
    described = {
        "start_anchor": "<|im_start|>assistant\n", "fields": {
            "tool_calls": {"open_pattern": r"\s*<tool_call>", "close": "</tool_call>", "repeats": True,
                "content": "json", "transform": {"type": "function", "function": "{content}"}},
            "content": {"content": "text"},
        },
    }
    text = f"Let me look.\n{WRITTEN}\n{WRITTEN}"
    theirs, ours = parse_response(text, described, prefix=""), parse_calls(HERMES_FORM, text)
    assert theirs == {"content": ours.text, "tool_calls": [call.to_dict() for call in ours.calls]}
    # The two reasons not to use it: a closing text inside a JSON string ends the call, and damage is an error.
    with pytest.raises(ValueError, match="could not parse"):
        parse_response('<tool_call>{"name": "f", "arguments": {"x": "</tool_call>"}}</tool_call>', described, prefix="")
    inside = parse_calls(HERMES_FORM, '<tool_call>{"name": "f", "arguments": {"x": "</tool_call>"}}</tool_call>')
    assert inside.calls == [ParsedCall("f", {"x": "</tool_call>"})]


def test_a_damaged_call_while_streaming() -> None:
    parser = CallParser(HERMES_FORM)
    assert parser.feed('a <tool_call>{"name": oh no, it is damaged}') == ["a"]
    [damaged] = parser.feed("</tool_call>")
    assert isinstance(damaged, DamagedCall)
    assert damaged.text == '<tool_call>{"name": oh no, it is damaged}</tool_call>'
    assert parser.feed(" b") == ["b"]
