"""Out of memory in the middle of a step: half the micro-batch and the same run, once; then one line."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.end_to_end.runs import rows, tiny, weights

from fulgurite.config.compose import compose
from fulgurite.errors import TrainingFailed, is_shortage
from fulgurite.plan import prepare as gather
from fulgurite.run.folder import read_config, read_provenance
from fulgurite.stage.causal_lm import LanguageStage
from fulgurite.train.experiment import Experiment

SAID = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "8 bytes."
)
WORDS = ("method=lora", "method.dropout=0.1", "trainer.max_steps=3", "optim.lr=1e-2", "scheduler=constant")


def short_at(monkeypatch: pytest.MonkeyPatch, step: int, rows: int) -> list[int]:
    """Let the second micro-batch of `step` (from 0) fail if it holds `rows` rows; returns the list of failures."""
    plain, failed = LanguageStage.compute_total_loss, []

    def compute_total_loss(self: LanguageStage, batch: dict[str, Any]) -> torch.Tensor:
        if self.training and self.trainer.global_step == step and len(self._window) == 2 and len(batch["rows"]) == rows:
            failed.append(step)
            raise RuntimeError(SAID)
        return plain(self, batch)

    monkeypatch.setattr(LanguageStage, "compute_total_loss", compute_total_loss)
    return failed


def same(a: Path, b: Path) -> bool:
    one, two = weights(a), weights(b)
    return one.keys() == two.keys() and all(torch.equal(one[n], two[n]) for n in one)


def test_before_a_checkpoint_the_run_is_that_of_the_smaller_micro_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = tiny(tmp_path / "half", *WORDS, "trainer.micro_batch_size=1")
    failed = short_at(monkeypatch, 1, 2)
    found = tiny(tmp_path / "found", *WORDS, "trainer.micro_batch_size=2")
    assert failed == [1]
    assert same(found, half)
    assert rows(found) == rows(half)
    assert read_config(found)["trainer"]["micro_batch_size"] == 1
    assert read_provenance(found)["knobs"]["trainer.micro_batch_size"]["reason"].startswith("halved from 2, which was "
        "out of memory at step 2")


def test_after_a_checkpoint_it_goes_on_from_there_and_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("method=full", "trainer.max_steps=3", "optim.lr=1e-3", "trainer.save_every=1", "scheduler=constant")
    plain = weights(tiny(tmp_path / "plain", *words, "trainer.micro_batch_size=2"))
    failed = short_at(monkeypatch, 2, 2)
    found = tiny(tmp_path / "found", *words, "trainer.micro_batch_size=2")
    assert failed == [2]
    assert "Out of memory at step 3: trainer.micro_batch_size is 1 instead of 2" in "".join(capsys.readouterr())
    assert [row["step"] for row in rows(found) if "train/loss" in row] == [1, 2, 3]
    for name, tensor in weights(found).items():
        torch.testing.assert_close(tensor, plain[name], rtol=1e-4, atol=1e-5)
    # the same command again, a step longer, takes the halved micro-batch up without being asked
    tiny(found, *words, "trainer.micro_batch_size=2", "trainer.max_steps=4", "resume.allow=[trainer.max_steps]")
    assert read_config(found)["trainer"]["micro_batch_size"] == 1
    assert failed == [2]


def test_other_memory_free_at_a_resume_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("method=full", "optim.lr=1e-3", "scheduler=constant", "trainer.save_every=1")
    whole = tiny(tmp_path / "whole", *words, "trainer.max_steps=4")
    derived = read_config(whole)["trainer"]["micro_batch_size"]
    assert derived > 1
    found = tiny(tmp_path / "found", *words, "trainer.max_steps=2")
    plain = gather.detect_machine
    monkeypatch.setattr(gather, "detect_machine", lambda *of: dataclasses.replace(plain(*of), memory_free=600_000_000))
    assert read_config(tiny(tmp_path / "tight",
        *words))["trainer"]["micro_batch_size"] < derived  # a fresh run takes fewer
    tiny(found, *words, "trainer.max_steps=4", "resume.allow=[trainer.max_steps]")
    assert read_config(found)["trainer"]["micro_batch_size"] == derived
    assert same(found, whole)
    assert [row["train/loss"] for row in rows(found)] == [row["train/loss"] for row in rows(whole)]


def test_a_second_shortage_ends_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short_at(monkeypatch, 1, 1)
    words = [*WORDS, "model=tiny", "data.max_samples=60", "trainer.global_batch_size=4", "precision=fp32",
        "stage.prompts=[]",
             f"run_dir={tmp_path}", "trainer.micro_batch_size=1"]
    composed = compose(words)
    line = r"at step 2: trainer.micro_batch_size=1, longest example \d+ tokens \(.+\); it cannot be halved"
    with pytest.raises(TrainingFailed, match=line) as told:
        Experiment(composed).fit()
    assert "\n" not in str(told.value)
    assert str(told.value).count("=") >= 4  # the micro-batch, and three remedies
    assert told.value.exit_status == 3


def test_other_errors_are_no_shortage() -> None:
    assert is_shortage(MemoryError())
    assert is_shortage(RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    assert not is_shortage(RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"))
    assert not is_shortage(ValueError("out of memory"))
