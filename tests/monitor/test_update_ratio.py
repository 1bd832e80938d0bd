"""The share by which an optimizer step changes the trained weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.callback.toy_stage import ToyStage, fit

from fulgurite.callback.metrics_logger import MetricsLogger
from fulgurite.logger.metrics_file import MetricsFile
from fulgurite.monitor.update_ratio import UpdateRatio, compute_ratio, is_due, sample_weights


def test_powers_of_two_and_every_64th_step_are_measured() -> None:
    assert [step for step in range(1, 300) if is_due(step)] == [1, 2, 4, 8, 16, 32, 64, 128, 192, 256]
    assert [step for step in range(1, 100) if is_due(step, 10)] == [1, 2, 4, 8, 10, 16, 20, 32, 40, 64, 80]


def test_ratio_by_hand() -> None:
    before, after = torch.tensor([3.0, 4.0]), torch.tensor([3.0, 4.5])
    assert compute_ratio(before, after) == pytest.approx(0.5 / 5)
    assert compute_ratio(torch.zeros(2), after) is None


def test_sample_covers_all_weights_at_even_distances() -> None:
    parts = [torch.arange(100.0), torch.arange(100.0, 1100.0).view(10, 100)]
    assert torch.equal(sample_weights(parts), torch.arange(1100.0))
    some = sample_weights(parts, 110)  # every 11th of each part
    assert torch.equal(some, torch.cat([torch.arange(0.0, 100, 11), torch.arange(100.0, 1100, 11)]))
    assert sample_weights([torch.ones(3, dtype=torch.bfloat16)]).dtype == torch.float32


def test_logged_ratio_is_that_of_the_whole_optimizer_step(tmp_path: Path) -> None:
    seen: list[list[torch.Tensor]] = []

    class Keeping(ToyStage):
        def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
            before = torch.cat([p.detach().flatten().clone() for p in self.parameters()])
            super().optimizer_step(*args, **kwargs)
            seen.append([before, torch.cat([p.detach().flatten() for p in self.parameters()])])

    record = MetricsLogger(MetricsFile(tmp_path / "metrics.jsonl"), log_every=1, total_steps=9)
    fit([UpdateRatio(), record], steps=9, stage=Keeping(), folder=tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    found = {row["step"]: row["train/update_ratio"] for row in rows if "train/update_ratio" in row}
    assert len(seen) == 9
    assert found.keys() == {1, 2, 4, 8}
    for step, value in found.items():
        before, after = seen[step - 1]
        assert value == pytest.approx(float((after - before).norm() / before.norm()))
