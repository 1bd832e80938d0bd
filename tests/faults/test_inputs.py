"""Real runs whose reward function is interrupted or changed, whose base changes, or whose folder is removed in the
middle."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch
from tests.end_to_end.runs import rows, tiny, weights

from fulgurite.errors import CheckpointError, Interrupted, TrainingFailed
from fulgurite.model.config import Tiny
from fulgurite.model.tiny import build
from fulgurite.run.load import load_run

REWARD = """
import os, random, signal
from pathlib import Path
def f(prompts, answers, **rest):
    calls = Path(os.environ["CALLS"])
    number = len(calls.read_text()) if calls.exists() else 0
    calls.write_text("x" * (number + 1))
    drawn = [len(a) + random.random() for a in answers]
    if str(number) == os.environ.get("STOPS_AT"):
        os.kill(os.getpid(), signal.SIGINT)
        while True: pass
    return drawn
"""


def test_a_reward_that_never_returns_is_left_at_once_and_the_run_goes_on_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the second rollout, and in the evaluation after it."""
    (tmp_path / "mine.py").write_text(REWARD)
    words = ["stage=grpo", f"stage.reward=['{tmp_path / 'mine.py'}:f']", "stage.max_new_tokens=6",
        "trainer.global_batch_size=4"]
    words += ["trainer.max_steps=4", "stage.minibatches=1", "stage.epochs_per_rollout=1", "trainer.eval_every=2",
        "data.max_samples=20"]
    monkeypatch.setenv("CALLS", str(tmp_path / "whole.calls"))
    whole = tiny(tmp_path / "whole", *words)
    monkeypatch.setenv("CALLS", str(tmp_path / "cut.calls"))
    for stops, step in (("1", 1), ("3", 2)):
        monkeypatch.setenv("STOPS_AT", stops)
        with pytest.raises(
            Interrupted,
            match=f"Stopped by SIGINT while a reward was computed, after step {step}, saved in .*step-{step};",
        ):
            tiny(tmp_path / "cut", *words)
    monkeypatch.delenv("STOPS_AT")
    cut = tiny(tmp_path / "cut", *words)
    assert rows(cut) == rows(whole)
    for name, tensor in weights(whole).items():
        assert torch.equal(weights(cut)[name], tensor), name


def test_a_base_that_changed_is_no_base_to_go_on_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = build(Tiny(), torch.float32)
    made.model.save_pretrained(tmp_path / "model")
    made.tokenizer.save_pretrained(tmp_path / "model")
    words = ["model=hf", f"model.path={tmp_path / 'model'}", "data.val_fraction=0"]
    tiny(tmp_path / "run", *words, "trainer.max_steps=1")
    capsys.readouterr()
    load_run(tmp_path / "run")
    assert "has changed since" not in capsys.readouterr().err
    made.model.lm_head.weight.data.mul_(1.5)
    made.model.save_pretrained(tmp_path / "model")
    load_run(tmp_path / "run")
    assert (
        f"{tmp_path / 'model'} has changed since {tmp_path / 'run'} was trained on it (its weights); restore it"
        in capsys.readouterr().err
    )
    longer = [*words, "trainer.max_steps=2"]
    with pytest.raises(
        CheckpointError,
        match=r"weights \(the weights that training begins from\) has changed\. .*resume\.allow=\[",
    ):
        tiny(tmp_path / "run", *longer, "resume.allow=[trainer.max_steps]")
    tiny(tmp_path / "run", *longer, "resume.allow=[trainer.max_steps,weights]")


def test_a_run_folder_that_is_removed_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By code that runs in the step, for there is no other process here; the folder is not made again."""
    from fulgurite.callback.run_folder import RunFolderGuard

    inner = RunFolderGuard.on_train_batch_end

    def removes(self: RunFolderGuard, trainer: object, *rest: object) -> None:
        shutil.rmtree(tmp_path / "run")
        inner(self, trainer, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(RunFolderGuard, "on_train_batch_end", removes)
    with pytest.raises(TrainingFailed, match=re.escape(f"The run folder {tmp_path / 'run'} was removed")):
        tiny(tmp_path / "run", "data.val_fraction=0")
    assert not (tmp_path / "run").exists()
