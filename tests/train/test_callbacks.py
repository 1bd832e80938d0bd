"""The list of callbacks of a run: which are built, and in which order they see a step."""

from __future__ import annotations

from pathlib import Path

import pytest
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import DeviceStatsMonitor, LearningRateMonitor
from tests.end_to_end.runs import tiny_experiment

from fulgurite import experiment
from fulgurite.train import callbacks as module
from fulgurite.train.callbacks import RunCallbacks


def names(callbacks: RunCallbacks) -> list[str]:
    return [type(callback).__name__ for callback in callbacks.every]


def test_callbacks_see_a_step_in_the_order_that_they_need(tmp_path: Path) -> None:
    """Whatever the order of the words."""
    words = ["model=tiny", "logger=tensorboard", "data.max_samples=60", f"run_dir={tmp_path}", "trainer.max_steps=2"]
    chosen = "callback=[monitor,device_stats,progress,samples,lr_monitor]"
    made = experiment(*words, chosen, "plan.allow=[steps.too-few]")
    assert names(made.callbacks) == [
        "RunFolderGuard", "DeviceStatsMonitor", "LearningRateMonitor", "UpdateRatio", "MetricsLogger", "Samples",
        "ProgressLine", "MonitorCallback", "Checkpoints", "SignalHandler",
    ]
    stats, rates = (c for c in made.trainer.callbacks if isinstance(c, DeviceStatsMonitor | LearningRateMonitor))  # type: ignore[attr-defined]
    assert isinstance(stats, DeviceStatsMonitor)
    assert rates.logging_interval == "step"


class Mine(Callback):  # type: ignore[misc]
    """A person's own."""


def test_a_run_has_only_the_callbacks_that_its_config_asks_for(tmp_path: Path) -> None:
    bare = tiny_experiment(tmp_path / "bare", "callback=none", callbacks=[Mine()]).callbacks
    assert names(bare) == ["RunFolderGuard", "Mine", "UpdateRatio", "MetricsLogger", "Checkpoints", "SignalHandler"]
    assert (bare.samples, bare.watch, bare.early_stopping, bare.stopped_early) == (None, None, None, False)
    more = ["privacy=dp_sgd", "privacy.noise_multiplier=1", "privacy.noise_seed=3", "data.max_samples=200"]
    private = tiny_experiment(tmp_path / "private", "callback=none", *more).callbacks
    assert names(private) == [
        "RunFolderGuard", "UpdateRatio", "MetricsLogger", "PrivacyFile", "Checkpoints", "SignalHandler",
    ]
    patient = tiny_experiment(tmp_path / "patient", "callback=[samples]", "trainer.early_stopping_patience=2").callbacks
    assert names(patient)[-4:] == ["Samples", "BestEarlyStopping", "Checkpoints", "SignalHandler"]
    assert patient.samples is patient.every[-4]


def test_other_processes_build_nothing_that_writes_to_trackers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "rank", lambda: 1)
    made = tiny_experiment(tmp_path / "run", "logger=tensorboard", "callback=[lr_monitor,progress]").callbacks
    assert names(made) == [
        "RunFolderGuard", "UpdateRatio", "MetricsLogger", "ProgressLine", "Checkpoints", "SignalHandler",
    ]
