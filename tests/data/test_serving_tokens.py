"""From the file to the tokens: a record with tools is trained behind the prompt that transformers writes for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.data.made_templates import STYLES

from fulgurite.data.build import build_source
from fulgurite.data.config import File
from fulgurite.data.template import load_template
from fulgurite.data.tokenized import tokenize_source

Write = Callable[[str, Any], Path]
PARAMETERS = {"type": "object", "properties": {"town": {"type": "string", "description": "a town"}},
    "required": ["town"]}
TOOLS = [{"type": "function", "function": {"name": "weather", "description": "The weather.", "parameters": PARAMETERS}}]


def turns(arguments: Any) -> list[dict[str, Any]]:
    call = {"id": "abcdefghi", "type": "function", "function": {"name": "weather", "arguments": arguments}}
    return [
        {"role": "user", "content": "How is it in Bern?"}, {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": '{"sky": "clear"}', "name": "weather", "tool_call_id": "abcdefghi"},
        {"role": "assistant", "content": "It is clear."},
    ]


GIVEN = turns(json.dumps({"town": "Bern"}))
RECORDS: dict[str, Any] = {
    "sft": {"messages": GIVEN, "tools": TOOLS}, "grpo": {"prompt": GIVEN[:-1], "tools": json.dumps(TOOLS)},
    "dpo": {"prompt": GIVEN[:-1], "chosen": GIVEN[-1:], "rejected": [{"role": "assistant", "content": "It rains."}],
        "tools": TOOLS},
    "rm": {"chosen": GIVEN, "rejected": [*GIVEN[:-1], {"role": "assistant", "content": "It rains."}], "tools": TOOLS},
    "kto": {"messages": GIVEN, "tools": TOOLS, "label": True},
}


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
@pytest.mark.parametrize("stage", RECORDS)
@pytest.mark.parametrize("style", STYLES)
def test_the_prompt_of_a_record_is_that_of_transformers(
    style: str, stage: str, kind: str, write: Write, make_tokenizer: Any, tmp_path: Path
) -> None:
    text, marks = STYLES[style]
    tokenizer = make_tokenizer(marks)
    tokenizer.chat_template = text
    template = load_template(None, tokenizer)
    path = write("a.jsonl", [RECORDS[stage]])
    if kind == "parquet":
        path = tmp_path / "a.parquet"
        pq.write_table(pa.Table.from_pylist([RECORDS[stage]]), path)
    source = build_source(File(path=[str(path)]), stage=stage, seed=1)
    assert source.check().unread == {}
    encoded = tokenize_source(source, tokenizer, template, source.config, tmp_path)
    spoken = turns({"town": "Bern"}
        if template.dialect.calls == "object" else GIVEN[1]["tool_calls"][0]["function"]["arguments"])
    expected = tokenizer.apply_chat_template(spoken[:-1], tools=TOOLS, add_generation_prompt=True)["input_ids"]
    assert "weather" in tokenizer.decode(expected)
    last = len(encoded) - 1  # a template that rewrites earlier turns has a row for each answer
    for begin, end in encoded.sides(last):
        ids, learn = encoded.tokens(last, begin, end)
        learned = np.flatnonzero(learn)
        start = len(ids) if stage == "grpo" else int(learned[np.flatnonzero(np.diff(learned, prepend=-9) > 1)[-1]])
        assert ids[:start].tolist() == expected
