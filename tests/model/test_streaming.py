"""A model's text on a terminal: whole words as they come, and control characters shown, not obeyed."""

from __future__ import annotations

import io

import pytest
import torch
from tests.model.folders import load_model

from fulgurite.data.call_forms import FORMS
from fulgurite.data.call_parser import CallParser
from fulgurite.model.config import Tiny
from fulgurite.model.streaming import Stream, printable

SIGN = "\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(("text", "shown"), [
    ("plain\ttext\n", "plain\ttext\n"), ("\x1b[2Jgone", f"{SIGN}[2Jgone"), ("a\rb", f"a{SIGN}b"), ("a\r\nb", "a\nb"),
    ("\x07\x00", SIGN * 2), ("naïve 漢字", "naïve 漢字"), ("\x9b31m", f"{SIGN}31m"),
])
def test_control_characters_are_shown(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_the_streamed_text_is_the_answer_without_prompt_and_special_tokens() -> None:
    tokenizer, out = load_model(Tiny()).tokenizer, io.StringIO()
    stream = Stream(tokenizer, out)
    stream.put(torch.tensor([tokenizer("the prompt")["input_ids"]]))
    for number in [*tokenizer("  A warmup, naïve 漢\x1b.")["input_ids"], tokenizer.eos_token_id]:
        stream.put(torch.tensor([number]))
    stream.end()
    assert stream.text.rstrip("\n") == "A warmup, naïve 漢\x1b."  # without the leading space, and not the prompt
    assert out.getvalue().rstrip("\n") == f"A warmup, naïve 漢{SIGN}."
    assert "\x1b" not in out.getvalue()


def test_calls_are_written_on_lines_of_their_own() -> None:
    tokenizer, out = load_model(Tiny()).tokenizer, io.StringIO()
    parser = CallParser(FORMS[0], hidden=[tokenizer.eos_token])
    stream = Stream(tokenizer, out, parser)
    call = '<tool_call>{"name": "f", "arguments": {"x": "a b", "n": 1}}</tool_call>'
    stream.put(torch.tensor([tokenizer("the prompt")["input_ids"]]))
    written = f"Look. {call}\n{call} Then <tool_call>oh</tool_call>"
    for number in [*tokenizer(written)["input_ids"], tokenizer.eos_token_id]:
        stream.put(torch.tensor([number]))
    stream.end()
    shown = 'Look.\n  f(x="a b", n=1)\n  f(x="a b", n=1)\nThen\n<tool_call>oh</tool_call>'
    assert out.getvalue() == shown
    assert [damaged.text for damaged in stream.damaged] == ["<tool_call>oh</tool_call>"]
    assert stream.text == f"{written}{tokenizer.eos_token}"
