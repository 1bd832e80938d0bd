"""The guard, and the trackers that live on this machine."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from fulgurite.language import UserMessage
from fulgurite.logger.guard import WAITING, GuardedLogger, guard_logger


class Tracker:
    """Keeps what it is given; `gate` holds it up."""

    def __init__(self, gate: threading.Event | None = None) -> None:
        self.calls: list[Any] = []
        self.gate = gate

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        if self.gate is not None:
            self.gate.wait(30)
        self.calls.append((step, metrics))

    def save(self) -> None:
        self.calls.append("save")

    def finalize(self, status: str) -> None:
        self.calls.append(status)


def test_calls_arrive_in_order_and_the_end_waits_for_them() -> None:
    tracker, closed = Tracker(), []
    one = GuardedLogger(lambda: tracker, name="x", close=closed.append)
    for step in range(5):
        one.log_metrics({"a": step}, step)
    one.save()
    one.finalize("success")
    assert tracker.calls == [*((step, {"a": step}) for step in range(5)), "save", "success"]
    assert closed == [tracker]
    assert one.works
    one.log_metrics({"a": 9}, 9)
    one.finalize("success")
    assert len(tracker.calls) == 7


def test_a_tracker_that_hangs_is_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    gate = threading.Event()
    one = GuardedLogger(lambda: Tracker(gate), name="slow", patience=lambda: 0.05, hint=UserMessage("Look elsewhere."))
    one.log_metrics({"a": 1}, 1)
    one.finalize("success")
    gate.set()
    assert not one.works
    assert [r.getMessage() for r in caplog.records] == [
        "logger=slow did not finish within 0.05 s and is abandoned. metrics.jsonl has every number. Look elsewhere."
    ]


def test_a_tracker_that_falls_behind_is_switched_off(caplog: pytest.LogCaptureFixture) -> None:
    gate = threading.Event()
    one = GuardedLogger(lambda: Tracker(gate), name="slow", patience=lambda: 0.05)
    for step in range(WAITING + 2):
        one.log_metrics({}, step)
    gate.set()
    assert not one.works
    assert "fell 10000 rows behind" in caplog.text


@pytest.mark.parametrize("error", [RuntimeError("no"), SystemExit(3), KeyboardInterrupt()])
def test_one_that_cannot_be_opened_is_switched_off(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> Any:
        raise error

    one = GuardedLogger(fails, name="x")
    one.start()
    assert one._thread is not None
    one._thread.join(10)
    one.log_metrics({"a": 1}, 1)
    one.finalize("success")
    assert len(caplog.records) == 1
    assert not one.works


def test_one_that_failed_is_closed_all_the_same() -> None:
    class Fails(Tracker):
        def log_metrics(self, metrics: dict[str, float], step: int) -> None:
            raise OSError("gone")

    closed: list[Any] = []
    one = GuardedLogger(Fails, name="x", close=closed.append)
    one.log_metrics({}, 1)
    assert one._thread is not None
    one._thread.join(10)
    assert len(closed) == 1


def test_a_row_is_the_one_of_its_time() -> None:
    tracker = Tracker()
    one = GuardedLogger(lambda: tracker, name="x")
    row = {"a": 1.0}
    one.log_metrics(row, 1)
    row["a"] = 2.0
    one.finalize("success")
    assert tracker.calls[0] == (1, {"a": 1.0})


def test_a_guard_is_put_on_once() -> None:
    one = guard_logger(Tracker())
    assert guard_logger(one) is one
