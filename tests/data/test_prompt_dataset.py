"""Prompts for stages that answer them: read, checked, cut before the last answer, with their columns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fulgurite.data.build import build_source
from fulgurite.data.config import File, Guide
from fulgurite.data.dataset import Packing, split_dataset
from fulgurite.data.example import Message
from fulgurite.data.prompt_dataset import PromptDataset
from fulgurite.data.source import Source
from fulgurite.data.template import Template, load_template
from fulgurite.data.tokenized import tokenize_source
from fulgurite.errors import DataError

Write = Callable[..., Path]
CHAT = [{"role": "system", "content": "Count."}, {"role": "user", "content": "one"}]


def asked(source: Source, tokenizer: Any, cache: Path) -> tuple[PromptDataset, Template]:
    template = load_template(None, tokenizer)
    encoded = tokenize_source(source, tokenizer, template, source.config, cache)
    rows, _, report = split_dataset(encoded, source.config, 1, 512, Packing.none)
    assert report.balanced
    assert report.unread_fields == {}
    return PromptDataset(source, rows), template


def test_texts_messages_and_columns(write: Write, tokenizer: Any, tmp_path: Path) -> None:
    records = [
        {"prompt": "What is 2 + 3?", "result": 5}, {"prompt": CHAT, "id": "b", "level": "easy"},
        {"prompt": "Name a colour.", "system": "Be brief."},
    ]
    source = build_source(File(path=[str(write("p.jsonl", records))], val_fraction=0), stage="grpo", seed=1)
    assert source.format == "prompts"
    found, template = asked(source, tokenizer, tmp_path)
    assert found.names == ["level", "result"]
    assert [dict(found.columns(i)) for i in range(3)] == [
        {"level": None, "result": 5}, {"level": "easy", "result": None}, {"level": None, "result": None},
    ]
    assert list(found.messages(1)) == [Message("system", "Count."), Message("user", "one")]
    assert found.messages(2)[0] == Message("system", "Be brief.")
    for i in range(3):
        assert found.ids(i) == template.encode_prompt(found.messages(i))
    assert found.place(1).endswith(":2")


@pytest.mark.parametrize(
    "record",
    [
        {"instruction": "Add 2 and 3.", "output": "5", "level": 1},
        {"prompt": "Add 2 and 3.", "response": "5", "level": 1},
        {"messages": [{"role": "user", "content": "Add 2 and 3."}, {"role": "assistant", "content": "5"}], "level": 1},
        {"conversations": [{"from": "human", "value": "Add 2 and 3."}, {"from": "gpt", "value": "5"}], "level": 1},
    ],
)
def test_of_examples_the_last_answer_becomes_a_column(
    record: dict[str, Any], write: Write, tokenizer: Any, tmp_path: Path
) -> None:
    source = build_source(File(path=[str(write("p.jsonl", [record]))], val_fraction=0), stage="ppo", seed=1)
    found, template = asked(source, tokenizer, tmp_path)
    assert dict(found.columns(0)) == {"answer": "5", "level": 1}
    assert found.ids(0) == template.encode_prompt([Message("user", "Add 2 and 3.")])


def test_the_guides_questions_are_prompts(tokenizer: Any, tmp_path: Path) -> None:
    found, _ = asked(build_source(Guide(val_fraction=0), stage="grpo", seed=1), tokenizer, tmp_path)
    assert len(found) > 50
    assert all(found.messages(i)[-1].role == "user" and found.columns(i)["answer"] for i in range(len(found)))


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "missing": ({"question": 1}, r":1: field 'prompt': is missing"),
    "empty": ({"prompt": " "}, r":1: field 'prompt': is empty"),
    "no turns": ({"prompt": []}, r":1: field 'prompt': is empty"),
    "no text": ({"prompt": None}, r":1: field 'prompt': expected text, found null"),
    "ends in an answer": (
        {"prompt": [*CHAT, {"role": "assistant", "content": "two"}]},
        r":1: field 'prompt\[2\]': the last turn is an answer",
    ),
    "a system message only": ({"prompt": CHAT[:1]}, r":1: field 'prompt\[0\]': a system message only"),
    "an unknown role": ({"prompt": [{"role": "me", "content": "x"}]},
        r":1: field 'prompt\[0\]\.role': 'me' is not a known role"),
    "a pair": ({"prompt": "x", "chosen": "a", "rejected": "b"}, r":1: field 'rejected': found a chosen/rejected pair"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_prompts_are_named_by_file_line_field_and_reason(name: str, write: Write) -> None:
    record, said = BAD[name]
    source = build_source(File(path=[str(write("p.jsonl", [record]))], format="prompts"), stage="grpo", seed=1)
    with pytest.raises(DataError, match=said):
        source.check()


def test_a_stage_that_learns_answers_refuses_prompts_without_them(write: Write) -> None:
    with pytest.raises(
        DataError, match=r"contains prompts without answers, but stage=sft expects answers to learn; use stage=grpo"
    ):
        build_source(File(path=[str(write("p.jsonl", [{"prompt": "One?"}]))]), stage="sft", seed=1)


def test_unknown_fields_are_refused_with_the_expected_ones(write: Write) -> None:
    with pytest.raises(DataError, match=r"data\.columns=\{prompt: question\}"):
        build_source(File(path=[str(write("p.jsonl", [{"question": "One?"}]))]), stage="grpo", seed=1)
    source = build_source(File(path=[str(write("p.jsonl", [{"question": "One?"}]))], columns={"prompt": "question"}),
        stage="grpo", seed=1)
    assert source.check().good == 1
