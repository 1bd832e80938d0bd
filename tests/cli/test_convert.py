"""`fulgurite convert`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fulgurite.cli.main import main

FILE = "stage: sft\nfinetuning_type: lora\nlearning_rate: 1.0e-5\nlora_rank: 8\nbf16: true\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "sft.yaml"
    path.write_text(FILE, encoding="utf-8")
    return path


def test_it_prints_the_words_and_what_the_rules_find(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "LLaMA-Factory", str(file)]) == 0
    printed = capsys.readouterr().out
    assert "optim.lr=1e-05" in printed
    assert "optim.lr=1e-05 is low for method=lora" in printed
    assert "fulgurite train stage=sft method=lora" in printed


def test_words_without_the_defaults_of_the_other_trainer(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "llamafactory", str(file), "--json", "--no-defaults"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["words"]) == {"stage=sft", "method=lora", "optim.lr=1e-05", "method.rank=8", "precision=bf16"}


def test_a_setting_without_a_counterpart_is_named_after_the_words(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(f"{FILE}use_kt: true\n", encoding="utf-8")
    assert main(["convert", "llamafactory", str(file)]) == 2
    printed = capsys.readouterr()
    assert "optim.lr=1e-05" in printed.out
    assert "sft.yaml: without a counterpart here: use_kt." in printed.err


@pytest.mark.parametrize(("words", "expected"), [
    ([], "takes a trainer (llamafactory, axolotl, trl) and a file"),
    (["llamafactory"], "takes a trainer"),
    (["llamafactory", "a", "b"], "takes a trainer"),
    (["llamafactory", "gone.yaml"], "gone.yaml cannot be read"),
    (["llamafactory", "x", "--jsn"], "has no flag --jsn. Did you mean --json?"),
])
def test_wrong_requests_are_one_line(words: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", *words]) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1
