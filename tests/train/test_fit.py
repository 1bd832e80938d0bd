"""A run from its first line to its last: the same files from the library and from the command."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from tests.cli.requests import TINY
from tests.end_to_end.runs import losses, rows, tiny_experiment
from tests.strategy.test_slurm_job import write_scontrol
from tests.train.stock_trainer import words_of

from fulgurite.callback.signals import SignalHandler
from fulgurite.cli.main import main
from fulgurite.errors import ConfigError


def test_fit_leaves_what_the_command_leaves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = words_of("sft", tmp_path, "trainer.micro_batch_size=2")
    experiment = tiny_experiment(tmp_path / "library", *words)
    experiment.fit()
    same = [word for word in experiment.composed.overrides if not word.startswith("run_dir=")]
    assert main(["train", *same, f"run_dir={tmp_path / 'command'}"]) == 0
    capsys.readouterr()

    def files(name: str) -> set[str]:
        return {str(path.relative_to(tmp_path / name)) for path in (tmp_path / name).rglob("*")}

    assert files("library") == files("command")
    assert rows(tmp_path / "library") == rows(tmp_path / "command")
    assert experiment.config.trainer.micro_batch_size == 2
    assert json.loads((tmp_path / "library" / "status.json").read_text())["state"] == "finished"
    with pytest.raises(ConfigError, match="has been trained"):
        experiment.fit()


def signal_before(step: int, number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next run gets a signal before this step."""
    inner = SignalHandler.on_train_batch_start

    def asked(self: Any, trainer: Any, *rest: Any) -> None:
        if trainer.global_step == step:
            monkeypatch.setattr(SignalHandler, "on_train_batch_start", inner)
            os.kill(os.getpid(), number)
        inner(self, trainer, *rest)

    monkeypatch.setattr(SignalHandler, "on_train_batch_start", asked)


WORDS = [word for word in TINY if not word.startswith("trainer.max_steps")]
WORDS += ["trainer.max_steps=3", "plan.allow=[steps.too-few]", "data.val_fraction=0", "callback=none"]


def test_a_slurm_job_is_requeued_and_continues_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No run folder is given: the job that was started again finds it."""
    asked = write_scontrol(tmp_path, "exit 0")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    assert main(["train", *WORDS, "run_dir=whole"]) == 0
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    signal_before(2, signal.SIGUSR1, monkeypatch)
    assert main(["train", *WORDS]) == 143
    [folder] = [path.parent for path in tmp_path.glob("runs/*/*/status.json")]
    assert asked.read_text() == "requeue 7\n"
    assert json.loads((folder / "status.json").read_text())["state"] == "stopped"
    assert "Slurm job 7 is back in the queue" in capsys.readouterr().err
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert main(["train", *WORDS]) == 0
    assert losses(folder) == losses(tmp_path / "whole")
    assert main(["train", *WORDS]) == 0  # as the first of several commands in the job's script
    assert "has ended before this job was started again" in capsys.readouterr().err
    assert len(list(tmp_path.glob("runs/*/*"))) == 1


@pytest.mark.parametrize(("step", "number", "word"), [
    (2, signal.SIGTERM, ""), (2, signal.SIGUSR1, "launcher.requeue=false"), (0, signal.SIGUSR1, ""),
])
def test_a_job_is_not_requeued(
    step: int, number: signal.Signals, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by another signal, not if that is switched off, and not if no step was done: it would begin for ever."""
    asked = write_scontrol(tmp_path, "exit 0")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    signal_before(step, number, monkeypatch)
    assert main(["train", *WORDS, f"run_dir={tmp_path / 'run'}", *[word for word in [word] if word]]) == 143
    assert not asked.exists()
