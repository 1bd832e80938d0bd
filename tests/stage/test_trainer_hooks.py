"""What lets a stage train under any Lightning Trainer: its precision, its pace, its numbers."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.end_to_end.runs import losses, tiny_experiment
from tests.train.stock_trainer import Losses, fit, stock, words_of

from fulgurite.callback.optimizer_step import TrainingClock
from fulgurite.errors import ConfigError
from fulgurite.stage.trainer_hooks import TrainerHooks


def test_a_trainer_without_precision_computes_in_the_runs(tmp_path: Path) -> None:
    words = words_of("sft", tmp_path, "precision=bf16", "trainer.micro_batch_size=2")
    ours = tiny_experiment(tmp_path / "ours", *words)
    ours.fit()
    for precision in ({}, {"precision": "bf16-mixed"}):
        theirs, seen = tiny_experiment(tmp_path / "theirs", *words), Losses()
        fit(stock(tmp_path, theirs, callbacks=[seen], limit_val_batches=0, **precision), theirs)
        assert seen.seen == losses(tmp_path / "ours")


class Trained(TrainerHooks):
    """A stage whose time is given: 2 s of training, 5 s of pause, 3 s of training, with a step after each."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.pace = TrainingClock(lambda: self.now)
        self.dtypes = SimpleNamespace(lightning="bf16-mixed", autocast=lambda device: f"autocast on {device}")


def stub(**more: Any) -> Any:
    return SimpleNamespace(**{"callback_metrics": {}, "precision": "bf16-mixed", "loggers": []} | more)


def test_tokens_per_second_count_the_steps_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    stage, trainer = Trained(), stub()
    monkeypatch.setattr(Trained, "trainer", trainer)
    stage.logs_to_trackers, stage.step_tokens_read, stage.step_record = False, 60, {"train/loss": 1.5}
    stage.on_train_batch_start({"step_targets": 1}, 0)
    stage.now = 2.0
    stage.log_step()
    assert {name: float(x) for name, x in trainer.callback_metrics.items()} == {
        "train/loss": 1.5, "train/tokens_per_second": 30.0,
    }
    stage.on_validation_start()
    stage.now = 7.0
    stage.on_train_batch_start({"step_targets": 1}, 0)
    stage.now = 10.0
    stage.log_step()
    assert float(trainer.callback_metrics["train/tokens_per_second"]) == 20.0
    stage.log_step()  # no time has passed
    assert float(trainer.callback_metrics["train/tokens_per_second"]) == 0.0


def test_numbers_go_to_trackers_only_if_there_are_some(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[Any] = []
    for loggers, own in (([], True), (["csv"], True), (["csv"], False)):
        stage = Trained()
        monkeypatch.setattr(Trained, "trainer", stub(loggers=loggers))
        monkeypatch.setattr(stage, "log_dict", lambda numbers, logger: logged.append(logger))
        stage.logs_to_trackers = own
        stage.log_numbers({"a": 1.0})
    assert logged == [False, True, False]


def test_a_batch_of_another_loader_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"The batch has no step_targets, .*; train on experiment\.data"):
        Trained().on_train_batch_start({"input_ids": torch.zeros(1)}, 0)


def test_the_runs_autocast_is_added_only_if_the_trainer_brings_none(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Trained()
    monkeypatch.setattr(Trained, "trainer", stub())
    assert isinstance(stage.precision_context(), contextlib.nullcontext)
    monkeypatch.setattr(Trained, "trainer", stub(precision="32-true"))
    assert stage.precision_context() == "autocast on cpu"
