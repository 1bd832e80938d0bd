"""How a failing command ends: one line and a status for every exception, and a traceback only if asked for."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fulgurite.cli import main as module
from fulgurite.cli.main import main
from fulgurite.config.check_value import check
from fulgurite.errors import ConfigError, Interrupted, TrainingFailed


def raises(error: BaseException) -> Callable[[list[str]], int]:
    def command(words: list[str]) -> int:
        raise error

    return command


class Silent(Exception):
    """Its message cannot be had."""

    def __str__(self) -> str:
        raise ValueError


def deep(words: list[str]) -> int:
    return deep(words)


def inside(words: list[str]) -> int:
    check(None, 3)  # type: ignore[arg-type]  # a fault in a frame of ours
    return 0


def lightning(words: list[str]) -> int:
    """What Lightning makes of a KeyboardInterrupt."""
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        sys.exit(1)


WORKER = "Caught KeyError in worker 0.\nOriginal Traceback (most recent call last):\n  File x\nKeyError: 'price'"
ENDS: dict[str, tuple[Callable[[list[str]], int], int, str]] = {
    "request": (raises(ConfigError("optim.lr=0 is not allowed.")), 2, "error: optim.lr=0 is not allowed."),
    "failed": (raises(TrainingFailed("Step 3: not finite.")), 3, "error: Step 3: not finite."),
    "ctrl-c": (raises(KeyboardInterrupt()), 130, "error: Interrupted outside of the training steps"),
    "interrupted": (raises(Interrupted("Stopped after step 3.", signal.SIGTERM)), 143, "error: Stopped after step 3."),
    "exit 0": (raises(SystemExit(0)), 3, "error: The command was ended by sys.exit(0) at "),
    "exit text": (raises(SystemExit("done")), 3, "error: The command was ended by sys.exit('done') at "),
    "lightning": (lightning, 130, "error: Interrupted outside"),
    "memory": (raises(MemoryError()), 3, "error: Out of memory"),
    "disk": (raises(OSError(5, "Input/output error", "x")), 2, "error: [Errno 5] Input/output error: 'x' (at "),
    "type": (raises(TypeError("a\nb\x1b[31m")), 3, "error: Unexpected TypeError: a b\\x1b[31m (at "),
    "silent": (raises(Silent()), 3, "error: Unexpected Silent (at "),
    "deep": (deep, 3, "error: Unexpected RecursionError: "),
    "ours": (inside, 3, "error: Unexpected AttributeError: "),
    "worker": (raises(KeyError(WORKER)), 3, "error: Unexpected "),
    "worker text": (raises(RuntimeError(WORKER)), 3, "error: Unexpected KeyError: 'price' (at "),
    "generator": (raises(GeneratorExit()), 3, "error: Unexpected GeneratorExit"),
}


@pytest.mark.parametrize("name", ENDS)
def test_every_exception_is_one_line_and_a_status(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command, status, expected = ENDS[name]
    monkeypatch.setitem(module.COMMANDS, "runs", command)
    assert main(["runs"]) == status
    line = capsys.readouterr().err
    assert line.startswith(expected)
    assert line.count("\n") == 1
    if status == 3 and "Unexpected" in expected:
        assert "--debug" in line
    if name == "ours":
        assert "(at fulgurite/config/check_value.py:" in line
    assert main(["runs", "--debug"]) == status
    assert "Traceback" in capsys.readouterr().err


def test_a_signal_outside_of_training_ends_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(words: list[str]) -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        return 0

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setitem(module.COMMANDS, "runs", command)
    assert main(["runs"]) == 143
    assert capsys.readouterr().err.startswith("error: Stopped by SIGTERM outside of the training steps")
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_closed_pipe_ends_no_run_as_if_it_were_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fulgurite.cli.main.discard_output", lambda: None)
    for name, status in (("runs", 0), ("train", 2)):
        monkeypatch.setitem(module.COMMANDS, name, raises(BrokenPipeError(32, "Broken pipe")))
        assert main([name]) == status


@pytest.mark.parametrize("launched", [True, False])
def test_a_rank_hands_its_line_to_its_launcher(
    launched: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another launcher's ranks print it: one line for all but failures, which only one of them may know."""
    from fulgurite.train import rank_process as rank

    reads, writes = os.pipe()
    monkeypatch.setattr(rank._Link, "pipe", writes if launched else None)
    seen: dict[str, Any] = {}
    for number in ("0", "1"):
        monkeypatch.setenv("RANK", number)
        for error in (
            ConfigError("wrong"), TrainingFailed("bad"), RuntimeError("[gloo] Connection closed by peer [127.0.0.1]:3")
        ):
            monkeypatch.setitem(module.COMMANDS, "runs", raises(error))
            main(["runs"])
            seen[f"{number} {type(error).__name__}"] = capsys.readouterr().err.strip()
    os.close(writes)
    with os.fdopen(reads) as pipe:
        found = [json.loads(line) for line in pipe]
    if launched:
        assert set(seen.values()) == {""}
        assert [(r["status"], r["line"][:5], r["lost"]) for r in found] == [
            (2, "wrong", False), (3, "bad", False), (3, "The c", True),
        ] * 2
    else:
        assert found == []
        assert seen["1 ConfigError"] == seen["1 RuntimeError"] == ""
        assert (seen["0 ConfigError"], seen["1 TrainingFailed"]) == ("error: wrong", "error: bad")


@pytest.mark.parametrize("words", [["train", "--help"], ["explain", "optim"], ["runs"]])
def test_a_reader_that_leaves_ends_a_command_silently(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    monkeypatch.chdir(tmp_path)
    with os.fdopen(writes, "w", encoding="utf-8") as closed:
        monkeypatch.setattr("sys.stdout", closed)
        assert main(words) == 0
        print("more")  # discarded: nothing is left to fail when Python exits
        closed.flush()
    assert capsys.readouterr().err == ""
