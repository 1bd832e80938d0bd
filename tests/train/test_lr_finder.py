"""The range test: its arithmetic by hand, the ramp that every group follows, a run that keeps nothing."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from fulgurite.config.compose import compose
from fulgurite.errors import ConfigError, TrainingFailed
from fulgurite.plan.preflight import refuse_find
from fulgurite.stage.causal_lm import LanguageStage
from fulgurite.train.experiment import Experiment
from fulgurite.train.lr_curve import compute_rate
from fulgurite.train.lr_finder import Ramp, build_ramp

RATES = [compute_rate(step, 1e-6, 1.0, 61) for step in range(61)]  # ten a decade


def test_every_group_follows_the_ramp_by_its_own_ratio() -> None:
    a, b = torch.nn.Parameter(torch.zeros(1)), torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([{"params": [a], "lr": 2e-4}, {"params": [b], "lr": 3.2e-3}])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, build_ramp(Ramp(low=1e-6, high=1.0), total=61, lr=2e-4))
    for step in range(61):
        first, second = (group["lr"] for group in optimizer.param_groups)
        assert first == pytest.approx(RATES[step])
        assert second / first == pytest.approx(16)
        optimizer.step()
        schedule.step()


def test_a_run_draws_its_curve_and_keeps_no_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["+find=lr", "lr_finder.steps=30", "model=tiny", "data.max_samples=60", "precision=fp32",
        "trainer.global_batch_size=4",
             "trainer.micro_batch_size=2", f"run_dir={tmp_path / 'run'}"]
    composed = compose(words)
    lr = composed.run.optim.lr
    Experiment(composed).fit()
    rows = [json.loads(line) for line in (tmp_path / "run" / "find.jsonl").read_text().splitlines()]
    assert 10 <= len(rows) <= 30
    assert [row["lr"] for row in rows] == pytest.approx(
        [compute_rate(step, lr / 1000, min(lr * 1000, 10), 30) for step in range(len(rows))]
    )
    assert all(math.isfinite(row["loss"]) for row in rows)
    assert not list((tmp_path / "run").glob("checkpoints/*"))
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "finished"
    assert "<svg" in (tmp_path / "run" / "find.svg").read_text()
    assert "Nothing that was trained is kept" in capsys.readouterr().out


def test_a_test_that_is_short_of_memory_begins_again_with_half_the_micro_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its curve is that of the smaller micro-batch, and the second shortage ends it in one line."""
    words = ["+find=lr", "lr_finder.steps=20", "model=tiny", "data.max_samples=60", "precision=fp32",
        "trainer.global_batch_size=4"]
    plain, least = LanguageStage.compute_total_loss, 3

    def short(self: LanguageStage, batch: dict[str, Any]) -> torch.Tensor:
        if self._trainer is not None and self.trainer.global_step == 4 and len(batch["rows"]) >= least:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.")
        found: torch.Tensor = plain(self, batch)
        return found

    def curve(name: str, micro: int) -> list[str]:
        composed = compose([*words, f"trainer.micro_batch_size={micro}", f"run_dir={tmp_path / name}"])
        Experiment(composed).fit()
        return (tmp_path / name / "find.jsonl").read_text().splitlines()

    expected = curve("small", 2)
    monkeypatch.setattr(LanguageStage, "compute_total_loss", short)
    capsys.readouterr()
    assert curve("halved", 4) == expected
    said = "Out of memory at step 5: the test begins again with trainer.micro_batch_size=2; the results are the same.\n"
    assert said in capsys.readouterr().err
    least = 1
    with pytest.raises(
        TrainingFailed, match=r"^Out of memory at step 5: trainer\.micro_batch_size=2.*; it was halved already\. Try "
    ):
        curve("again", 4)
    assert json.loads((tmp_path / "again" / "status.json").read_text())["state"] == "failed"


@pytest.mark.parametrize(("words", "said"), [
    (["stage=ppo"], r"not possible with stage=ppo"), (["stage=grpo"], r"not possible with stage=grpo"),
    (["privacy=dp_sgd", "method=lora"], r"without an account of privacy"),
    (["trainer.devices=2"], r"runs in one process"),
    (["resume.run=x"], r"leave resume\.run out"),
])
def test_a_range_test_without_meaning_is_refused_in_one_sentence(words: list[str], said: str) -> None:
    run = compose(["+find=lr", *words]).run
    with pytest.raises(ConfigError, match=said):
        refuse_find(run.stage, run.private, run.world_size, run.resume.run)
