"""Calls that a chat template renders are read back from its text: the arguments, the text before them, and several."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

import pytest
from tests.data.made_call_templates import CALL_TEMPLATES
from tests.data.made_templates import STYLES
from tests.data.test_model_templates import ENDLESS, FILES, template_of
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from fulgurite.data.call_bodies import ParsedCall
from fulgurite.data.call_forms import FORMS
from fulgurite.data.call_parser import Piece, parse_calls
from fulgurite.data.example import Conversation, Message
from fulgurite.data.template import BUILT_IN, Template, load_template
from fulgurite.errors import DataError

SCHEMA = {"type": "object", "properties": {
    "text": {"type": "string"}, "count": {"type": "integer"}, "share": {"type": "number"}, "on": {"type": "boolean"},
    "none": {"type": ["string", "null"]}, "things": {"type": "array"}, "more": {"type": "object"},
}}
TOOLS = tuple(
    {"type": "function", "function": {"name": name, "description": "a function", "parameters": SCHEMA}}
    for name in ("get_weather", "set-alarm.v2")
)
NESTED = {"a": [1, 2.5, {"b": "c"}], "d": {"e": []}}
CASES: dict[str, list[dict[str, Any]]] = {
    "plain": [{"text": "Bern", "count": 3, "share": 0.25, "on": True}],
    "texts that look like other types": [{"text": "75001"}, {"text": "true"}, {"text": "null"}],
    "no arguments": [{}],
    "unicode": [{"text": "Zürich 東京 🌧 \u00a0x"}],
    "nested": [{"things": [1, "two", [3]], "more": NESTED, "on": False}],
    "several": [{"text": "Bern"}, {"text": "Chur", "count": 0}, {"text": "Bern"}],
    "double quotes": [{"text": 'say "hi", {not: json} [x]', "things": ['a "b"']}],
    "code": [{"text": 'if a < b:\n    print("x", y)  # {"name": "f", "arguments": {}}'}],
    "quotes and backslashes": [{"text": "it's \\n \\ and 'x'"}],
    "a closing text": [{"text": "before </tool_call> [/TOOL_CALLS] <|im_end|> after", "things": ["</function>"]}],
}
UNABLE = {name: {"quotes and backslashes", "code"} for name in ("lfm2_2_5", "lfm2_2_5_v2", "lfm2_2_5_vl")}
"""What cannot be read back: LFM 2.5 writes the quotes inside a text as those around it."""
MARKS = re.compile(r"<[|｜][^|｜<>\n{}']{1,40}[|｜]>|\[/?[A-Z_]{3,}\]")
"""What the templates of this folder write that is one token in its model's tokenizer."""
MADE = {f"made {name}": one for name, one in STYLES.items()} | {
    f"made {name}": (text, MARKS.findall(text)) for name, text in CALL_TEMPLATES.items()
}
NAMES = [*(name for name in FILES if name not in ENDLESS), *BUILT_IN, *MADE]


@cache
def find_template(name: str) -> Template:
    if name in FILES:
        return template_of(name)
    raw = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))},
        merges=[]))
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    text, marks = MADE.get(name, ("", ["<|im_end|>"]))
    made.add_special_tokens({"additional_special_tokens": sorted(set(marks))})
    if name in BUILT_IN:
        return load_template(name, made)
    made.chat_template = text
    return load_template(None, made)


def render(template: Template, calls: list[dict[str, Any]], text: str = "") -> str:
    """The text that a model which has learned the template generates, with its special tokens."""
    made = tuple(
        {"type": "function", "id": f"abcdefgh{n}", "function": {
            "name": TOOLS[n % 2]["function"]["name"], "arguments": arguments}}  # type: ignore[index]
        for n, arguments in enumerate(calls)
    )
    talk = Conversation((Message("user", "Hello?"), Message("assistant", text, made)), TOOLS)
    rows = template.encode_rows(talk, "last")
    learned = [i for i, learn in zip(rows[-1].ids, rows[-1].learn, strict=True) if learn]
    return str(template.tokenizer.decode(learned, skip_special_tokens=False))


def writes_several(template: Template) -> bool:
    """Whether an answer may have several calls: Llama 3 refuses them, and gpt-oss writes the first alone."""
    try:
        return "set-alarm" in render(template, [{}, {}])
    except DataError:
        return False


def functions(calls: list[ParsedCall]) -> list[tuple[str, str]]:
    """Names and arguments; as JSON, so that 1 and true differ."""
    return [(call.name, json.dumps(call.arguments, sort_keys=True)) for call in calls]


@pytest.mark.parametrize("name", NAMES)
def test_a_rendered_call_is_read_back(name: str) -> None:
    template = find_template(name)
    assert template.call_form is not None
    read = 0
    for case, given in CASES.items():
        if case in UNABLE.get(name, ()):
            continue
        for calls in [given, *([[one] for one in given] if len(given) > 1 else [])]:
            if len(calls) > 1 and not writes_several(template):
                continue
            written = render(template, calls)
            parsed = parse_calls(template.call_form, written, TOOLS, hidden=template.special.texts)
            expected = [
                (TOOLS[n % 2]["function"]["name"], json.dumps(a, sort_keys=True))  # type: ignore[index]
                for n, a in enumerate(calls)
            ]
            assert functions(parsed.calls) == expected, (case, written)
            assert parsed.damaged == []
            assert re.sub(r"<think>\s*</think>|</?think>", "", parsed.text).strip() == ""
            read += 1
    assert read >= 7


@pytest.mark.parametrize("name", NAMES)
def test_the_text_before_a_call_is_kept(name: str) -> None:
    template = find_template(name)
    written = render(template, [CASES["plain"][0]], text="Let me look.")
    parsed = parse_calls(template.call_form, written, TOOLS, hidden=template.special.texts)
    assert [call.name for call in parsed.calls] == ["get_weather"]
    if "Let me look." in written:
        assert "Let me look." in parsed.text
    message = template.answer(written, TOOLS)
    assert [call["function"]["arguments"] for call in message.tool_calls] == [CASES["plain"][0]]


def test_a_thought_that_is_cut_makes_no_call() -> None:
    template = find_template("qwen3_5_think")
    written = render(template, CASES["plain"])
    assert template.head.endswith("<think>\n")
    assert len(template.answer(written, TOOLS).tool_calls) == 1
    cut = written.replace("</think>", "")
    assert template.answer(cut, TOOLS).tool_calls == ()
    parser = template.build_call_parser(TOOLS)
    assert not any(isinstance(piece, ParsedCall) for piece in [*parser.feed(cut), *parser.finish()])


def join(pieces: list[Piece]) -> list[Piece]:
    """The pieces, with texts that follow each other as one."""
    made: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, str) and made and isinstance(made[-1], str):
            made[-1] += piece
        else:
            made.append(piece)
    return made


@pytest.mark.parametrize("name", NAMES)
def test_streamed_equals_not_streamed(name: str) -> None:
    template = find_template(name)
    written = render(template, CASES["plain"], text="Let me look.")
    for text in (written, written[: len(written) // 2], "No call, but <b>tags</b>, {braces} [and] more. "):
        parser, other = template.build_call_parser(TOOLS), template.build_call_parser(TOOLS)
        whole = join([*other.feed(text), *other.finish()])
        assert join([*(piece for character in text for piece in parser.feed(character)), *parser.finish()]) == whole
        assert "<b>" not in text or whole == [text]


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_call_is_marked(name: str) -> None:
    template = find_template(name)
    written = render(template, [{"text": "Bern", "things": [1, 2]}])
    for cut in range(written.index("Bern"), written.index("Bern") + 4):
        parsed = parse_calls(template.call_form, written[:cut], TOOLS, hidden=template.special.texts)
        assert parsed.calls == []
        assert len(parsed.damaged) == 1
        assert "get_weather" in parsed.damaged[0].text
        assert str(parsed.damaged[0].reason)


def test_every_form_belongs_to_a_template() -> None:
    used = {form.name for name in NAMES if (form := find_template(name).call_form)}
    assert used == {form.name for form in FORMS}
