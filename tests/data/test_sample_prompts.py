"""The prompts that are answered during training: those given, else beginnings of the validation examples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.data.made_records import Write

from fulgurite.data.build import build_source
from fulgurite.data.config import File
from fulgurite.data.dataset import Packing, split_dataset
from fulgurite.data.example import Message
from fulgurite.data.sample_prompts import choose_sample_prompts
from fulgurite.data.template import load_template
from fulgurite.data.tokenized import tokenize_source


def test_without_given_prompts_validation_examples_are_asked(write: Write, tokenizer: Any, tmp_path: Path) -> None:
    said = [(("system", "s"), ("user", f"q{n}"), ("assistant", "a")) for n in range(60)]
    talk = [{"messages": [{"role": r, "content": c} for r, c in turns]} for turns in said]
    config = File(path=[str(write("a.jsonl", talk))])
    source = build_source(config, stage="sft", seed=1)
    _, val, _ = split_dataset(
        tokenize_source(source, tokenizer, load_template(None, tokenizer), config, tmp_path),
        config,
        1,
        512,
        Packing.none,
    )
    held = {p for i in range(len(val or ())) for p in val.places(i)}  # type: ignore[union-attr]
    drawn = choose_sample_prompts(None, source, val)
    assert len(drawn) == 5
    for prompt in drawn:
        assert [m.role for m in prompt] == ["system", "user"]
        assert f"{source.files[0]}:{int(prompt[1].content[1:]) + 1}" in held
    assert choose_sample_prompts(None, source, None)[0] == [Message("system", "s"), Message("user", "q0")]
    assert choose_sample_prompts(["mine"], source, val) == ["mine"]
    assert choose_sample_prompts([], source, val) == []


def test_a_greeting_is_part_of_the_prompt_to_sample(write: Write) -> None:
    turns = [("assistant", "hello"), ("user", "q"), ("assistant", "a"), ("user", "r"), ("assistant", "b")]
    record = {"messages": [{"role": role, "content": content} for role, content in turns],
        "chat_template_kwargs": {"x": 1}}
    found = choose_sample_prompts(
        None, build_source(File(path=[str(write("a.jsonl", [record]))]), stage="sft", seed=1), None
    )
    assert [[m.content for m in prompt] for prompt in found] == [["hello", "q"]]
    assert found[0].arguments == {"x": 1}


def test_prompts_of_running_text_are_its_beginnings(write: Write) -> None:
    source = build_source(File(path=[str(write("a.txt", "one two three " * 9 + "\nfour\n"))]), stage="pt", seed=1)
    assert choose_sample_prompts(None, source, None) == [" ".join(["one", "two", "three"] * 4), "four"]
    assert json.dumps(choose_sample_prompts(None, source, None))


def test_records_of_prompts_are_asked_whole(write: Write) -> None:
    turns = [{"role": "system", "content": "Count."}, {"role": "user", "content": "one"}]
    source = build_source(
        File(path=[str(write("p.jsonl", [{"prompt": "One?"}, {"prompt": turns}]))]), stage="grpo", seed=1
    )
    assert choose_sample_prompts(None, source, None) == [
        [Message("user", "One?")], [Message("system", "Count."), Message("user", "one")]
    ]
