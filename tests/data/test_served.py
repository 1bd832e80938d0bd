"""From the file to the tokens: in every stage as transformers' apply_chat_template writes the same record."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.data.made_templates import STYLES

from fulgurite.data.build import build_source
from fulgurite.data.config import File
from fulgurite.data.template import load_template
from fulgurite.data.tokenized import TokenizedData, tokenize_source

Write = Callable[[str, Any], Path]
TOOLS = [{"type": "function", "function": {
    "name": "weather", "description": "the weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}}]
CALL = {"role": "assistant", "content": "", "tool_calls": [
    {"type": "function", "id": "abcdefghi", "function": {"name": "weather", "arguments": {"city": "Zürich"}}},
]}
PROMPT = [
    {"role": "system", "content": "Be brief."}, {"role": "user", "content": "How is Zürich?"}, CALL,
    {"role": "tool", "tool_call_id": "abcdefghi", "name": "weather", "content": '{"sky": "blue"}'},
]
GOOD, BAD = ([{"role": "assistant", "content": text}] for text in ("Blue.", "Green."))
RECORDS: dict[str, list[dict[str, Any]]] = {
    "sft": [{"messages": [*PROMPT, *GOOD], "tools": TOOLS}],
    "dpo": [{"prompt": PROMPT, "chosen": GOOD, "rejected": BAD, "tools": TOOLS}],
    "rm": [{"prompt": PROMPT[:2], "chosen": [CALL], "rejected": BAD, "tools": TOOLS}],
    "kto": [{"prompt": PROMPT, "completion": GOOD, "label": True, "tools": TOOLS}],
    "grpo": [{"prompt": PROMPT, "tools": TOOLS}],
}


@pytest.fixture
def encoded(write: Write, make_tokenizer: Any, tmp_path: Path) -> Callable[[str, str], tuple[TokenizedData, Any]]:
    def make(style: str, stage: str) -> tuple[TokenizedData, Any]:
        text, marks = STYLES[style]
        tokenizer = make_tokenizer(marks, llama3=style == "llama3.1")
        tokenizer.chat_template = text
        config = File(path=[str(write("a.jsonl", RECORDS[stage]))])
        return tokenize_source(
            build_source(config, stage=stage, seed=1),
            tokenizer,
            load_template(None, tokenizer),
            config,
            tmp_path / "cache",
        ), tokenizer

    return make


@pytest.mark.parametrize("style", sorted(STYLES))
@pytest.mark.parametrize("stage", sorted(RECORDS))
def test_each_side_is_that_of_transformers(style: str, stage: str, encoded: Any) -> None:
    made, tokenizer = encoded(style, stage)
    record = RECORDS[stage][0]
    prompt = record["messages"][:-1] if stage == "sft" else record["prompt"]
    before = tokenizer.apply_chat_template(prompt, tools=TOOLS, add_generation_prompt=True)["input_ids"]
    if stage == "grpo":
        assert made.tokens(0, 0, len(made.arrays["ids"]))[0].tolist() == before
        return
    answers = {"sft": [GOOD], "kto": [GOOD], "dpo": [GOOD, BAD], "rm": [[CALL], BAD]}[stage]
    last = len(made) - 1  # in Qwen 3's style each answer has a row of its own
    for (begin, end), answer in zip(made.sides(last), answers, strict=True):
        ids, learn = made.tokens(last, begin, end)
        begins = [i for i in range(1, len(learn)) if learn[i] and not learn[i - 1]]
        assert len(begins) == (2 if stage == "sft" and len(made) == 1 else 1)  # the call is learned as well
        assert ids[: begins[-1]].tolist() == before
        assert tokenizer.decode(ids) == tokenizer.apply_chat_template([*prompt, *answer], tools=TOOLS, tokenize=False)
