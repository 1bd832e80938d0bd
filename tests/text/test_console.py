"""What is printed: foreign text is shown, bounded, and never obeyed by a terminal."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from pathlib import Path

import pytest

from fulgurite.cli.main import main
from fulgurite.language.current import use_language
from fulgurite.text.console import (
    LONGEST,
    escape_lines,
    guard_output,
    read_error,
    say,
    say_error,
    shorten,
    show,
    to_one_line,
)

STEERS = [
    "\x1b[2J", "\x1b]0;title\x07", "\x9b31m", "a\rb", "\b", "\x7f", "\u202e", "\u2066", "\u200f", "\u2028", "\x85",
    "\x0b", "\x0c",
    "\udc80", "\U000e0041",
]


@pytest.mark.parametrize("text", STEERS)
def test_control_characters_are_written_out(text: str) -> None:
    written = to_one_line(f"before{text}after")
    assert written.isprintable()
    assert written.startswith("before")
    assert written.endswith("after")
    assert "\\x" in written or "\\u" in written or "\\U" in written
    written.encode("utf-8")


def test_ordinary_text_stays_as_it_is() -> None:
    for text in ("Grüße, 你好, שלום, नमस्ते", "👩\u200d👩\u200d👧 family", "a\ttab"):
        assert to_one_line(text) == text
    assert escape_lines("one\r\ntwo\n\nthree") == "one\ntwo\n\nthree"


def test_an_error_is_one_bounded_line_with_both_its_ends(capsys: pytest.CaptureFixture[str]) -> None:
    say_error(f"data.jsonl:1: field '{'k' * 10_000_000}': not known\nhere; rename it.")
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert len(printed) < LONGEST + 100
    assert printed.startswith("error: data.jsonl:1: field 'kkk")
    assert printed.endswith("not known\\nhere; rename it.\n")
    assert " characters left out " in printed


def test_a_short_line_is_not_cut() -> None:
    assert shorten("x" * LONGEST) == "x" * LONGEST


def test_every_way_to_the_terminal_is_guarded(capsys: pytest.CaptureFixture[str]) -> None:
    guard_output()
    say("a \x1b[2J key\nsecond line")
    show("a \x1b[2J table \udc80")
    handler = logging.StreamHandler(sys.stderr)
    for name in ("fulgurite.somewhere", "transformers.somewhere"):
        logger = logging.Logger(name)
        logger.addHandler(handler)
        logger.warning("%s and %s", "\x1b[31m", "\u202e")
    print(warnings.formatwarning("\x07bell", UserWarning, "x.py", 1), file=sys.stderr)
    printed = capsys.readouterr()
    for text in (printed.out, printed.err):
        assert "\\x1b" in text
        assert all(c.isprintable() or c in "\n\t" for c in text)


def hostile_requests(folder: Path) -> list[list[str]]:
    """Requests that are refused, each with a control character in a text that comes from a file."""
    steer = "\x1b[2J\x07\x9b"
    (folder / "key.jsonl").write_text(json.dumps({f"odd{steer}": 1}) + "\n")
    (folder / "twice.jsonl").write_text('{"k\\u001b[2J": 1, "k\\u001b[2J": 2}\n')
    (folder / "long.jsonl").write_text(json.dumps({"k" * 3_000_000: 1}) + "\n")
    (folder / "many.jsonl").write_text(json.dumps({f"key{n}": 1 for n in range(50_000)}) + "\n")
    (folder / "head.csv").write_text(f"odd{steer},other\n1,2\n")
    (folder / f"name{steer}.jsonl").write_text("{\n")
    model = folder / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({"model_type": f"odd{steer}"}))
    names = ["key.jsonl", "twice.jsonl", "long.jsonl", "many.jsonl", "head.csv", f"name{steer}.jsonl"]
    words = ["train", "model=tiny", "data=file", f"run_dir={folder / 'run'}"]
    train = [[*words, f"data.path='{folder / name}'"] for name in names]
    return [
        *train, ["plan", "model=hf", f"model.path={model}"], ["chat", f"model={model}"],
        ["chat", f"run={folder}/{steer}"],
        ["train", f"name='a{steer}'"], ["train", "name='a\nb'"], [f"fr{steer}"],
    ]


def test_no_request_steers_the_terminal_or_floods_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for words in hostile_requests(tmp_path):
        status = main(words)
        printed = capfd.readouterr()
        text = printed.out + printed.err
        assert status == 2, (words, text)
        assert all(c.isprintable() or c in "\n\t" for c in text), (words, text[:500])
        assert len(text) < 3 * LONGEST, (words, len(text))
        assert sum(line.startswith("error: ") for line in printed.err.splitlines()) == 1, printed.err


def test_reward_that_raises_with_an_escape_is_one_clean_line(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    (tmp_path / "reward.py").write_text(
        "def reward(prompts, answers, **columns):\n    raise ValueError('bad \\x1b[2J\\nsecond')\n"
    )
    words = [
        "train", "stage=grpo", "model=tiny", "data=guide_prompts", "precision=fp32", "trainer.max_steps=1",
        "stage.prompts=[]",
        f"stage.reward=['{tmp_path / 'reward.py'}:reward']", f"run_dir={tmp_path / 'run'}",
    ]
    assert main(words) == 2
    printed = capfdbinary.readouterr()
    assert b"\x1b" not in printed.err + printed.out
    assert b"\\x1b[2J" in printed.err.splitlines()[-1]


@pytest.mark.parametrize(("language", "begin"), [("en", "error: "), ("zh", "错误：")])
def test_error_line_is_read_back_in_each_language(
    language: str, begin: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with use_language(language):
        say_error("optim.lr=5")
    line = capsys.readouterr().err.strip()
    assert line == f"{begin}optim.lr=5"
    assert read_error(line) == "optim.lr=5"
    assert read_error("warning: optim.lr=5") is None
