"""A conversion as a person sees it."""

from __future__ import annotations

import shlex

from fulgurite.convert.engine import convert_tree
from fulgurite.convert.llama_factory import LLAMA_FACTORY
from fulgurite.convert.report import convert_to_json, format_command, format_conversion
from fulgurite.language.current import set_language
from fulgurite.plan.diagnostic import Trouble
from fulgurite.rules.registry import Severity
from fulgurite.text.layout import count_cells

TREE = {
    "stage": "sft", "learning_rate": 1e-5, "overwrite_cache": True, "use_kt": True, "lora_rank": 8,
    "model_name_or_path": "Qwen/Qwen3-4B-Instruct-2507", "dataset": "identity,alpaca_en_demo",
}
TROUBLE = Trouble("rate.low", Severity.warning, "optim.lr=1e-05 is low.", "optim.lr=3e-4")


def test_each_setting_is_in_the_section_of_its_verdict() -> None:
    text = format_conversion("x.yaml", convert_tree(LLAMA_FACTORY, TREE), [TROUBLE])
    head, taken, default, nothing, without, rules, command = text.split("\n\n")
    assert head == "x.yaml, a file of LLaMA-Factory, in our words"
    assert "learning_rate       1e-05 → optim.lr=1e-05" in taken
    assert "lora_alpha" in default
    assert "overwrite_cache" in nothing
    assert "use_kt" in without
    assert "optim.lr=1e-05 is low. → optim.lr=3e-4" in rules
    assert command.splitlines()[1].startswith("  fulgurite train stage=sft method=lora scheduler=linear model=hf")


def test_no_line_is_wider_than_the_terminal_in_either_language() -> None:
    found = convert_tree(LLAMA_FACTORY, TREE)
    for language in ("en", "zh"):
        set_language(language)
        try:
            lines = format_conversion("x.yaml", found, []).splitlines()
        finally:
            set_language("en")
        assert max(map(count_cells, lines)) <= 80


def test_the_command_is_what_a_shell_reads() -> None:
    words = ["data.dataset=[a,b c]", *(f"optim.lr={n}" for n in range(20))]
    text = format_command(words, 40)
    assert shlex.split(text.replace("\\\n", " ")) == ["fulgurite", "train", *words]
    assert max(map(len, text.splitlines())) <= 40


def test_json_has_the_words_and_every_setting() -> None:
    found = convert_to_json("x.yaml", convert_tree(LLAMA_FACTORY, TREE), [TROUBLE])
    assert "optim.lr=1e-05" in found["words"]
    assert {entry["key"] for entry in found["settings"] if not entry["default"]} == set(TREE)
    assert found["troubles"][0]["sentence"] == "optim.lr=1e-05 is low."
