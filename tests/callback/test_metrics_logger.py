"""The rows: which steps, which numbers, what is left out of the pace, and trackers that fail."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import Checkpoint
from tests.callback.toy_stage import ToyStage, fit

from fulgurite.callback.metrics_logger import MetricsLogger
from fulgurite.logger.guard import GuardedLogger
from fulgurite.logger.metrics_file import MetricsFile


def record(folder: Path, total: int = 6, every: int = 1, **more: Any) -> MetricsLogger:
    return MetricsLogger(MetricsFile(folder / "metrics.jsonl"), log_every=every, total_steps=total, **more)


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_one_row_a_step_and_one_an_evaluation(tmp_path: Path) -> None:
    fit([record(tmp_path)], steps=6, micro=2, eval_every=3, folder=tmp_path)
    train = [row for row in rows(tmp_path) if "val/loss" not in row]
    val = [row for row in rows(tmp_path) if "val/loss" in row]
    assert [row["step"] for row in train] == [1, 2, 3, 4, 5, 6]
    assert [row["tokens"] for row in train] == [6, 12, 18, 24, 30, 36]
    assert [(row["step"], row["tokens"]) for row in val] == [(3, 18), (6, 36)]
    assert set(val[0]) == {"step", "epoch", "tokens", "val/loss"}
    assert set(train[0]) == {
        "step", "epoch", "tokens", "train/loss", "train/lr", "train/grad_norm", "train/clipped",
        "train/tokens_per_second",
    }


def test_log_every_keeps_the_last_step(tmp_path: Path) -> None:
    fit([record(tmp_path, total=7, every=3)], steps=7, folder=tmp_path)
    assert [row["step"] for row in rows(tmp_path)] == [3, 6, 7]


class Ticking:
    """A clock that moves when told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Costs(Callback):
    """What each thing takes: a micro-batch 1 s, an evaluation 100 s."""

    def __init__(self, clock: Ticking) -> None:
        self.clock = clock

    def on_before_backward(self, *rest: Any) -> None:
        self.clock.now += 1

    def on_validation_end(self, *rest: Any) -> None:
        self.clock.now += 100


class Saves(Checkpoint):
    """Saves before the first micro-batch of a step, as our checkpoints do, and takes 1000 s."""

    def __init__(self, clock: Ticking, folder: Path) -> None:
        self.clock, self.folder = clock, folder

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx % trainer.accumulate_grad_batches == 0 and trainer.global_step:
            trainer.save_checkpoint(self.folder / "x.ckpt")
            self.clock.now += 1000


@pytest.mark.parametrize("micro", [1, 2])
def test_the_pace_leaves_out_evaluations_and_checkpoints(tmp_path: Path, micro: int) -> None:
    clock = Ticking()
    fit(
        [record(tmp_path), Costs(clock), Saves(clock, tmp_path)], stage=ToyStage(clock),
        steps=6, micro=micro, eval_every=2, checkpoints=True, folder=tmp_path,
    )
    # Each micro-batch has 5 tokens and takes 1 s, whatever lies between them.
    assert [row["train/tokens_per_second"] for row in rows(tmp_path) if "train/loss" in row] == [5.0] * 6
    assert clock.now == 6 * micro + 3 * 100 + 5 * 1000


def test_a_resumed_run_forgets_the_rows_after_its_checkpoint(tmp_path: Path) -> None:
    fit([record(tmp_path, total=4)], steps=4, eval_every=2, folder=tmp_path)
    whole = rows(tmp_path)
    (tmp_path / "metrics.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in whole[:2]) + '{"step": 3, "train/loss": 99.0}\n{"step": 4, "tra'
    )

    class Resumed:
        global_step, is_global_zero = 2, True

    record(tmp_path, total=4).on_train_start(Resumed(), None)  # type: ignore[arg-type]
    assert rows(tmp_path) == whole[:2]


class Failing:
    """A tracker of somebody else's that works until `after` rows and then raises at every call."""

    save_dir = None
    name, version = "failing", "0"

    def __init__(self, after: int) -> None:
        self.after, self.got = after, 0

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        if self.got >= self.after:
            raise ConnectionError("the server is gone\nsecond line")
        self.got += 1

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> None:
            if self.got >= self.after:
                raise ConnectionError("the server is gone")

        return call


@pytest.mark.parametrize("after", [0, 3])
def test_a_tracker_that_raises_is_switched_off_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, after: int,
) -> None:
    (tmp_path / "with").mkdir()
    (tmp_path / "without").mkdir()
    plain = fit([record(tmp_path / "without")], steps=6, eval_every=3, folder=tmp_path)
    tracker = Failing(after)
    with caplog.at_level(logging.WARNING, logger="fulgurite"):
        tracked = fit([record(tmp_path / "with")], steps=6, eval_every=3, loggers=[tracker], folder=tmp_path)
    warned = [r.getMessage() for r in caplog.records if r.name.startswith("fulgurite")]
    assert warned == [
        "logger=Failing failed (ConnectionError: the server is gone) and is switched off; the run goes on. "
        "metrics.jsonl has every number."
    ]
    assert tracker.got == after
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), tracked.parameters(), strict=True))

    def numbers(folder: Path) -> list[dict[str, Any]]:
        return [{k: v for k, v in row.items() if k != "train/tokens_per_second"} for row in rows(folder)]

    assert numbers(tmp_path / "with") == numbers(tmp_path / "without")


class Keeping(Failing):
    """A tracker that keeps what it is given."""

    def __init__(self) -> None:
        super().__init__(10**9)
        self.rows: list[tuple[int, dict[str, float]]] = []

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.rows.append((step, metrics))


def test_a_tracker_gets_the_rows_of_the_file(tmp_path: Path) -> None:
    one, two = Keeping(), GuardedLogger(Keeping, name="two")
    fit([record(tmp_path, total=4)], steps=4, eval_every=2, loggers=[one, two], folder=tmp_path)
    assert [{"step": step, **row} for step, row in one.rows] == rows(tmp_path)
    assert two.works


def test_a_non_finite_number_becomes_null(tmp_path: Path) -> None:
    class Bad(ToyStage):
        def configure_gradient_clipping(self, *rest: Any, **more: Any) -> None:
            super().configure_gradient_clipping(*rest, **more)
            self.step_record["train/grad_norm"] = float("inf")

    fit([record(tmp_path, total=1)], steps=1, stage=Bad(), folder=tmp_path)
    assert rows(tmp_path)[0]["train/grad_norm"] is None
