"""What a sharded stage does so that all processes make the same passes and stop together."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.end_to_end.runs import tiny
from tests.stage.one_step import batch_of, examples, stage_of
from tests.strategy.together import run_together

from fulgurite.errors import TrainingFailed
from fulgurite.stage.causal_lm import LanguageStage
from fulgurite.stage.sharded import iterate_ahead

RUN = [
    "strategy=fsdp", "trainer.accelerator=cpu", "trainer.micro_batch_size=2", "trainer.max_steps=3",
    "trainer.save_every=1", "optim=sgd", "optim.lr=1e-3",
]


def test_a_filler_leaves_no_trace() -> None:
    stage = stage_of("method=full")
    batch = batch_of(examples(512)[:2], 10)
    stage.accumulate_metric("router_aux_loss", 3.0, 1)

    def compute(batch: dict[str, Any]) -> torch.Tensor:
        stage.accumulate_metric("router_aux_loss", 5.0, 1)
        return stage.compute_total_loss(batch)

    loss = stage.compute_idle(batch, compute)
    loss.backward()
    assert float(loss.detach()) == 0.0
    gradients = [p.grad for p in stage.parameters()]
    assert all(gradient is not None and not gradient.any() for gradient in gradients)
    assert stage._metric_sums["router_aux_loss"].tolist() == [3.0, 1.0]


def test_a_filler_of_a_steps_data_is_computed_and_left_out() -> None:
    seen: list[int] = []
    parts = [{"n": 1}, {"n": 2, "filler": True}, {"n": 3}]
    found = list(iterate_ahead({"ahead": parts}, lambda part: seen.append(part["n"])))
    assert seen == [1, 2, 3]
    assert [part["n"] for part, _ in found] == [1, 3]


def test_a_stage_that_is_not_sharded_asks_no_other_process() -> None:
    stage = stage_of("method=full")
    assert stage.is_finite_everywhere(torch.tensor(1.0))
    assert not stage.is_finite_everywhere(torch.tensor([1.0, torch.inf]))
    assert stage.gather_rows([3, 4], is_bad=False) == [3, 4]
    assert stage.run_gathered(lambda: 7) == 7
    stage.free_gathered()


def fail_in_second(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The sentence with which a run ends whose second process has a loss in step 2 that is no number."""
    right = LanguageStage.compute_total_loss

    def compute(self: LanguageStage, batch: dict[str, Any]) -> torch.Tensor:
        is_bad = os.environ["RANK"] == "1" and self.trainer.global_step == 1
        return right(self, batch) * (torch.nan if is_bad else 1.0)

    monkeypatch.setattr(LanguageStage, "compute_total_loss", compute)
    with pytest.raises(TrainingFailed) as caught:
        tiny(folder, *RUN)
    return str(caught.value)


def test_all_processes_stop_before_the_step_and_name_the_bad_examples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = run_together(2, lambda: fail_in_second(tmp_path / "run", monkeypatch))
    assert first == second
    assert first.startswith("Step 2: the loss is not finite. First bad tensor: the loss itself.")
    named = re.search(r"Examples: (.*?)\. The step was not made", first)
    assert named is not None
    assert len(named[1].split(", ")) == 2  # the micro-batch of the second process, not that of the first
    assert (tmp_path / "run" / "checkpoints" / "step-1").is_dir()
    assert not (tmp_path / "run" / "checkpoints" / "step-2").exists()
