"""The help of each command: whole, narrow, and quick."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from fulgurite.cli.help import (
    asks,
    describe_chat,
    describe_eval,
    describe_export,
    describe_overview,
    describe_train,
    fit_help,
)
from fulgurite.cli.main import main
from fulgurite.config.chat_arguments import ChatConfig
from fulgurite.config.export_arguments import Export
from fulgurite.config.run import GROUPS
from fulgurite.config.schema import list_knobs
from fulgurite.explain.choices import list_presets
from fulgurite.language.current import use_language
from fulgurite.text.layout import count_cells

HELP = [
    (["--help"], "fulgurite train"), (["train", "--help"], "adamw_8bit"), (["train", "-h"], "+experiment=sft_guide"),
    (["train", "-h", "optim"], "optim.lr"), (["train", "--help", "optim=adamw"], "optim.lr"),
    (["train", "-h", "optim.lr"], "learning rate"),
    (["plan", "--help"], "--rules"), (["chat", "--help"], "temperature"), (["export", "--help"], "dtype"),
    (["eval", "--help"], "max_examples"), (["average", "--help"], "decay"),
    (["runs", "--help"], "runs"),
    (["explain", "--help"], "explain"),
]
HEAVY = ("torch", "transformers", "lightning", "hydra", "omegaconf", "numpy", "peft", "pyarrow")


def test_help_shows_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "fulgurite explain" in capsys.readouterr().out
    assert main(["train", "--help"]) == 0
    assert "fulgurite train [GROUP=OPTION] [NAME=VALUE]" in capsys.readouterr().out


@pytest.mark.parametrize("columns", [60, 80])
def test_help_fits_the_terminal(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["train", "--help"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= max(columns, 68)


def test_help_loads_nothing_heavy() -> None:
    """One process asks for every help there is; a second is mostly what Hydra and torch take to load."""
    code = f"""
import contextlib, io, sys
from fulgurite.cli.main import main
for words, part in {HELP!r}:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        try:
            status = main(words)
        except SystemExit as left:
            status = left.code or 0
    assert status == 0 and part in out.getvalue(), (words, status, out.getvalue()[:300])
    loaded = [name for name in {HEAVY!r} if name in sys.modules]
    assert not loaded, (words, loaded)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "asked"), [(["-h"], True), (["optim.lr", "--help"], True), (["--helper"], False), ([], False)]
)
def test_help_is_asked_for_by_its_flag_alone(words: list[str], asked: bool) -> None:
    assert asks(words) is asked


def test_help_of_train_has_every_group_and_every_preset_of_a_whole_run() -> None:
    text = describe_train()
    assert all(re.search(rf"^  {group} ", text, re.M) for group in GROUPS)
    presets = [p for p in list_presets() if p.group in ("experiment", "sweep", "find")]
    assert presets
    assert all(f"+{preset.group}={preset.name}" in text for preset in presets)


def test_help_of_chat_and_export_has_every_parameter() -> None:
    chat, export = describe_chat(), describe_export()
    assert all(re.search(rf"^  {knob.name} +.* \[{re.escape(str(knob.default))}\]$", chat, re.M)
        for knob in list_knobs(ChatConfig))
    assert all(knob.name in export for knob in list_knobs(Export))


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["plan", "--help"], ["explain", "--help"]])
def test_help_is_chinese_if_it_is_asked_for(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    import re

    from fulgurite.cli.main import main

    assert main([*words, "--lang", "zh"]) == 0
    chinese = capsys.readouterr().out
    assert main([*words, "--lang", "en"]) == 0
    english = capsys.readouterr().out
    assert re.search(r"[\u4e00-\u9fff]", chinese)
    assert not re.search(r"[\u4e00-\u9fff]", english)


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("columns", [60, 80])
def test_lines_of_a_help_are_wrapped_in_their_column(language: str, columns: int) -> None:
    with use_language(language):
        for text in (describe_overview(), describe_chat(), describe_eval(), describe_export(), describe_train()):
            lines = fit_help(text, columns).splitlines()
            assert max(map(count_cells, lines)) <= columns
            assert "".join("".join(lines).split()) == "".join(text.split()), "every word stays"
    assert fit_help("  a b   one two three", 16) == "  a b   one two\n        three"
    assert fit_help("  a long name   one two", 20) == "  a long name\n      one two"
