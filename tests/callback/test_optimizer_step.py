"""From micro-batches to optimizer steps: the clock of training, and one call for each step."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch import Callback
from tests.callback.toy_stage import ToyStage, fit

from fulgurite.callback.optimizer_step import OptimizerStepCallback, TrainingClock


class Ticking:
    """A clock that moves when told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_pace_counts_from_go_to_hold() -> None:
    clock = Ticking()
    pace = TrainingClock(clock)
    for wait, do in ((3, pace.go), (2, pace.tick), (1, pace.hold), (7, pace.go), (4, pace.hold)):
        clock.now += wait
        do()
    assert (pace.trained, pace.paused) == (2 + 1 + 4, 3 + 7)


class Steps(OptimizerStepCallback):
    """Notes each call: the step and the seconds trained until then."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, float]] = []

    def on_step(self, trainer: Any, stage: Any, step: int) -> None:
        self.seen.append((step, stage.pace.trained))


class MicroBatches(Callback):
    """Each micro-batch takes one second."""

    def __init__(self, clock: Ticking) -> None:
        self.clock = clock

    def on_before_backward(self, *rest: Any) -> None:
        self.clock.now += 1


@pytest.mark.parametrize("micro", [1, 2])
def test_on_step_is_called_once_after_the_last_micro_batch_of_each_step(micro: int, tmp_path: Path) -> None:
    clock, steps = Ticking(), Steps()
    fit([steps, MicroBatches(clock)], steps=3, micro=micro, stage=ToyStage(clock), folder=tmp_path)
    assert steps.seen == [(step, float(step * micro)) for step in (1, 2, 3)]


def test_a_resumed_run_begins_after_the_steps_it_has() -> None:
    steps, stage = Steps(), SimpleNamespace(pace=TrainingClock(Ticking()))
    trainer = SimpleNamespace(global_step=5)
    steps.on_train_start(trainer, stage)
    steps.on_train_batch_end(trainer, stage, None, None, 0)  # a micro-batch inside step 6
    trainer.global_step = 6
    steps.on_train_batch_end(trainer, stage, None, None, 1)
    assert [step for step, _ in steps.seen] == [6]
