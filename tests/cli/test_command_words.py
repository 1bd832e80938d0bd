"""Commands of other tools, and words of `chat` and `export` without their parameter."""

from __future__ import annotations

from pathlib import Path

import pytest

from fulgurite.cli.command_words import OTHER_COMMANDS, check_command_words, explain_command
from fulgurite.config.chat_arguments import ChatConfig
from fulgurite.config.export_arguments import Export
from fulgurite.errors import ConfigError

COMMANDS = ["train", "plan", "explain", "chat", "export", "serve", "runs", "board"]


@pytest.mark.parametrize(("word", "answer"), [
    ("webui", "`fulgurite board`"), ("sft", "`fulgurite train stage=sft`"), ("merge", "fulgurite export"),
    ("optim.lr=1", "`fulgurite train optim.lr=1 seed=1`"), ("a.yaml", "`fulgurite train a.yaml seed=1`"),
    ("tran", "Did you mean train?"), ("xyzzy", "The commands are train, plan"),
])
def test_word_that_is_no_command_is_answered_with_one(word: str, answer: str) -> None:
    assert answer in str(explain_command(word, ["seed=1"], COMMANDS))


def test_each_word_has_one_answer() -> None:
    words = [word for names in OTHER_COMMANDS.values() for word in names]
    assert len(words) == len(set(words))
    assert not {*words} & {*COMMANDS}


@pytest.mark.parametrize(("command", "declared", "words", "line"), [
    ("chat", ChatConfig, ["runs/x"], "fulgurite chat run=runs/x"),
    ("chat", ChatConfig, ["--run", "runs/x", "--temperature=0"], "fulgurite chat run=runs/x temperature=0"),
    ("export", Export, ["runs/x", "out"], "fulgurite export run=runs/x out=out"),
    ("export", Export, ["--run", "x", "--output_dir", "y"], "fulgurite export run=x out=y"),
    ("chat", ChatConfig, ["max_length=3", "runs/x"], "fulgurite chat max_length=3 run=runs/x"),
])
def test_words_without_their_parameter_are_answered(command: str, declared: type, words: list[str], line: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check_command_words(command, declared, words)
    assert f"Write `{line}`" in str(refused.value)


def test_right_words_pass(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    check_command_words("chat", ChatConfig, [f"run={tmp_path}", "temperature=0", "plugins=[x]", "model.revision=a"])
    check_command_words("chat", ChatConfig, ["--help"])


def test_missing_run_folder_is_refused_before_torch_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a run's folder"):
        check_command_words("chat", ChatConfig, [f"run={tmp_path}/nothing"])
