"""Whether a tokenizer alone renders conversations as training does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from tests.data.made_templates import CHATML, STYLES, made
from transformers import AutoTokenizer

from fulgurite.data.example import Message
from fulgurite.data.template import load_template
from fulgurite.data.template_agreement import describe_difference


def test_arguments_are_the_defaults_of_the_template_that_is_saved(make_tokenizer: Any, tmp_path: Path) -> None:
    given = {"enable_thinking": False, "effort": "a \"b\"", "deep": {"k": [1, None, True, 0.5]}}
    text = "{{ effort }} {{ deep.k }}" + STYLES["qwen3"][0]
    template = made(text, make_tokenizer, **given)
    template.tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    said = again.apply_chat_template([{"role": "user", "content": "1?"}], add_generation_prompt=True, tokenize=False)
    assert said == (
        'a "b" [1, None, True, 0.5]<|im_start|>user\n1?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n'
    )
    assert describe_difference(template, again) is None
    other = again.apply_chat_template(
        [{"role": "user", "content": "1?"}], add_generation_prompt=True, tokenize=False, enable_thinking=True
    )
    assert other.endswith("assistant\n")
    assert load_template(None, again, given).text([Message("user", "1?")], True) == said
    again.chat_template = STYLES["qwen3"][0]
    assert describe_difference(template, again) is not None


class Contrary:
    """A tokenizer whose template writes other tokens than training, or refuses."""

    def __init__(self, tokenizer: Any, error: Exception | None = None) -> None:
        self.tokenizer, self.error = tokenizer, error

    def apply_chat_template(self, turns: Any, **arguments: Any) -> dict[str, list[int]]:
        if self.error is not None:
            raise self.error
        ids = list(self.tokenizer.apply_chat_template(turns, **arguments)["input_ids"])
        return {"input_ids": ids[:-1]}


def test_other_tokens_are_described_and_a_refused_conversation_is_passed_over(make_tokenizer: Any) -> None:
    tokenizer = make_tokenizer(CHATML)
    tokenizer.chat_template = STYLES["qwen3"][0]
    template = load_template(None, tokenizer)
    assert describe_difference(template, tokenizer) is None
    found = describe_difference(template, Contrary(tokenizer))  # type: ignore[arg-type]
    assert found is not None
    assert str(found).startswith("renders conversations differently from training; set data.template")
    assert describe_difference(template, Contrary(tokenizer, TemplateError("no"))) is None  # type: ignore[arg-type]
