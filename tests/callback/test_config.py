"""The group `callback`: which callbacks a run has, where they stand, and that a run without them computes the same."""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar

import pytest
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import DeviceStatsMonitor, LearningRateMonitor
from tests.end_to_end.runs import rows, tiny

from fulgurite import experiment
from fulgurite.callback import config
from fulgurite.callback.config import CallbackOption
from fulgurite.callback.context import CallbackContext
from fulgurite.checkpoint.resume import changes
from fulgurite.config.compose import compose
from fulgurite.config.schema import _options, option
from fulgurite.errors import ConfigError
from fulgurite.plan.preflight import refuse_impossible

BARE = ["data.val_fraction=0", "trainer.max_steps=2"]


def test_a_run_without_callbacks_has_the_same_numbers(tmp_path: Path) -> None:
    usual, bare = tiny(tmp_path / "usual", *BARE), tiny(tmp_path / "bare", *BARE, "callback=none")
    assert rows(bare) == rows(usual)
    assert json.loads((bare / "status.json").read_text())["state"] == "finished"
    assert not (bare / "samples.jsonl").exists()


def test_they_stand_in_the_order_that_they_need(tmp_path: Path) -> None:
    """Whatever the order of the words."""
    words = ["model=tiny", "logger=tensorboard", "data.max_samples=60", f"run_dir={tmp_path}", "trainer.max_steps=2"]
    made = experiment(*words, "callback=[monitor,device_stats,progress,samples,lr_monitor]", "plan.allow=[steps.too-few]")
    names = [type(callback).__name__ for callback in made.callbacks.every]
    assert names == [
        "RunFolderGuard", "DeviceStatsMonitor", "LearningRateMonitor", "UpdateRatio", "MetricsLogger", "Samples", "ProgressLine",
        "MonitorCallback", "Checkpoints",
        "SignalHandler",
    ]
    stats, rates = (c for c in made.trainer.callbacks if isinstance(c, DeviceStatsMonitor | LearningRateMonitor))
    assert isinstance(stats, DeviceStatsMonitor)
    assert rates.logging_interval == "step"


def test_what_writes_to_trackers_needs_one() -> None:
    for tracker in ("none", "csv"):
        with pytest.raises(ConfigError, match="callback=lr_monitor writes to a tracker, and this run has none"):
            refuse_impossible(compose(["callback=[samples,lr_monitor]", f"logger={tracker}"]).run)
    refuse_impossible(compose(["callback=[samples,lr_monitor]", "logger=[csv,tensorboard]"]).run)
    with pytest.raises(ConfigError, match=r"callback\.lr_monitor\.log_momentum is not a knob .*; it belongs to callback=lr_monitor"):
        compose(["callback.lr_monitor.log_momentum=true"])


class Counting(Callback):  # type: ignore[misc]
    """Counts the optimizer steps of the run that it was built for."""

    def __init__(self, context: CallbackContext) -> None:
        self.total, self.steps = context.total_steps, 0

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.steps += 1


COUNTED: list[Counting] = []


def build_counting(option: CallbackOption, context: CallbackContext) -> Counting:
    COUNTED.append(Counting(context))
    return COUNTED[-1]


def test_anybodys_callback_sees_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_options, "callback", dict(_options["callback"]))

    @option("callback", "counting")
    class Count(CallbackOption):
        """Counts."""

        builds: ClassVar[str] = f"{__name__}:build_counting"

    tiny(tmp_path, *BARE, "callback=[counting]")
    assert [(callback.steps, callback.total) for callback in COUNTED] == [(2, 2)]


def test_a_resumed_run_may_have_other_watchers_and_no_other_callbacks() -> None:
    def chosen(*names: str) -> dict[str, Any]:
        return {"callback": {name: {"option": name} for name in names}}

    assert changes(chosen("samples", "monitor"), chosen("progress")) == []
    assert changes(chosen("samples"), {"callback": {}}) == []
    assert [str(change) for change in changes(chosen("samples"), chosen("samples", "mine"))] == ['callback.mine (absent) → "mine"']


def test_a_package_offers_a_callback_by_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line of its pyproject.toml: the class is imported when a run is built with it."""
    monkeypatch.setitem(_options, "callback", dict(_options["callback"]))
    offered = [EntryPoint(name, f"{__name__}:{place}", "fulgurite.callbacks") for name, place in [("steps", "Steps"), ("broken", "rows")]]
    monkeypatch.setattr(config, "entry_points", lambda group: offered if group == "fulgurite.callbacks" else [])
    config.offer_installed()
    tiny(tmp_path / "run", *BARE, "callback=[steps]")
    assert Steps.seen == [1, 2]
    with pytest.raises(ConfigError, match=r"callback=broken \(.*:rows\) cannot be made: TypeError"):
        tiny(tmp_path / "broken", *BARE, "callback=[broken]")


class Steps(Callback):  # type: ignore[misc]
    """Notes the steps of the last run."""

    seen: ClassVar[list[int]] = []

    def on_train_batch_end(self, trainer: Any, *rest: Any) -> None:
        if trainer.global_step not in self.seen:
            self.seen.append(trainer.global_step)
