"""The measured probe of a plan: what it times, of which micro-batches, and that it leaves nothing behind."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.end_to_end.runs import tiny_experiment

from fulgurite.errors import RequestError
from fulgurite.train import probe


def test_the_clock_divides_a_step_into_passes_and_the_optimizer(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([10.0, 13.0, 14.0, 20.0, 22.0, 23.0])
    monkeypatch.setattr(probe, "time", SimpleNamespace(perf_counter=lambda: next(now)))
    clock, stage = probe._Clock(), SimpleNamespace(device=torch.device("cpu"))
    for tokens in (5, 7):
        clock.on_train_batch_start(None, stage, {"tokens": tokens}, 0)
        clock.on_before_optimizer_step(None, stage, None)
        clock.on_train_batch_end(None, stage, None, None, 0)
    assert (clock.tokens, clock.passes, clock.steps) == ([5, 7], [3.0, 2.0], [1.0, 1.0])


class Made(probe._Clock):
    """Micro-batches that took 9, 4 and 2 seconds, and their optimizer steps 9, 0.5 and 1.5."""

    seen: Any = None

    def __init__(self) -> None:
        super().__init__()
        Made.seen = self

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.real = list(self.tokens)
        self.tokens, self.passes, self.steps = [1000, 20, 40], [9.0, 4.0, 2.0], [9.0, 0.5, 1.5]


def test_the_first_micro_batch_is_not_counted_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "_Clock", Made)
    pieces = tiny_experiment(tmp_path / "run", "trainer.micro_batch_size=2", "trainer.max_steps=50")
    found = probe.measure(pieces)
    assert len(Made.seen.real) == 3
    assert found == type(found)(6.0 / 60, 2.0 / 2, 60)
    assert not (tmp_path / "run").exists()
    assert pieces.composed.run.trainer.global_batch_size == 4  # the run itself is as it was


@pytest.mark.parametrize(("words", "what"), [
    (["stage=grpo", "stage.reward=['count:e']"], "stage=grpo"),
    (["privacy=dp_sgd", "privacy.noise_multiplier=1", "data.max_samples=200"], "privacy"),
])
def test_steps_that_are_not_alike_are_refused(words: list[str], what: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=f"^--probe cannot time {what}, whose steps differ"):
        probe.measure(tiny_experiment(tmp_path / "run", *words))
