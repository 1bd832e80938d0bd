"""Histograms of gradients: of whole optimizer steps, and sent to trackers only when they are due."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.pytorch.loggers.logger import DummyLogger
from tests.callback.toy_stage import fit

from fulgurite.callback.gradient_histograms import GradientHistograms, compute_histogram
from fulgurite.config.compose import compose
from fulgurite.errors import ConfigError
from fulgurite.plan.preflight import refuse_impossible


class Tracker(DummyLogger):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[int, dict[str, Any]] = {}

    def log_histograms(self, histograms: dict[str, Any], step: int) -> None:
        self.seen[step] = histograms


def test_the_counts_are_numpy_s() -> None:
    import numpy as np

    values = torch.randn(1000, generator=torch.Generator().manual_seed(1))
    counts, edges = compute_histogram(values.reshape(10, 100), bins=8)
    expected, places = np.histogram(values.numpy(), bins=8)
    assert counts == expected.tolist()
    assert edges == pytest.approx(places.tolist(), abs=1e-6)


@pytest.mark.parametrize(("values", "total"), [([], 0), ([2.0, 2.0], 2), ([float("nan"), 1.0, float("inf")], 1)])
def test_no_value_one_value_and_values_that_are_not_finite(values: list[float], total: int) -> None:
    counts, edges = compute_histogram(torch.tensor(values), bins=4)
    assert sum(counts) == total
    assert len(edges) == 5
    assert edges == sorted(set(edges))


def test_the_first_step_and_each_that_is_due_are_sent_with_the_gradient_of_the_whole_step(tmp_path: Any) -> None:
    import lightning.pytorch as pl

    class Watching(pl.Callback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.sums: dict[int, float] = {}

        def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
            gradient = module.model.weight.grad
            self.sums[trainer.global_step + 1] = float(gradient.max())

    tracker, watching = Tracker(), Watching()
    fit([GradientHistograms(3), watching], steps=7, loggers=[tracker], folder=tmp_path)
    assert sorted(tracker.seen) == [1, 3, 6]
    for step, found in tracker.seen.items():
        assert set(found) == {"gradients/model.weight", "gradients/model.bias"}
        counts, edges = found["gradients/model.weight"]
        assert sum(counts) == 4
        assert edges[-1] == pytest.approx(watching.sums[step])


def test_it_needs_a_tracker_and_whole_gradients() -> None:
    words = ["model=tiny", "callback=[gradient_histograms]"]
    with pytest.raises(ConfigError, match=r"writes to a tracker, and this run has none"):
        refuse_impossible(compose(words).run)
    refuse_impossible(compose([*words, "logger=wandb"]).run)
    with pytest.raises(ConfigError, match=r"reads whole gradients, and strategy=fsdp divides them"):
        refuse_impossible(compose([*words, "logger=wandb", "strategy=fsdp"]).run)
