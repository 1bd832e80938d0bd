"""A tracker kept out of the run's way: opened, fed and closed on its own thread, switched off at its first error."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

log = logging.getLogger(__name__)

WAITING = 10_000
"""Calls that may wait for a slow tracker; one more and it is switched off."""


class GuardedLogger(Logger):  # type: ignore[misc]
    """Stands for a tracker: calls return at once, and its errors end the tracker, never the run.

    `open_` makes the tracker and `close` ends it; both run on the thread. `finalize` waits at most the seconds that
    `patience` tells then. `hint` says what to do where the tracker fails. Lightning calls loggers without a guard.
    """

    def __init__(
        self, open_: Callable[[], Any], *, name: str, close: Callable[[Any], None] | None = None,
        patience: Callable[[], float] = lambda: 5.0, hint: str = "",
    ) -> None:
        super().__init__()
        self._open, self._close, self._patience, self._label, self._hint = open_, close, patience, name, hint
        self._calls: queue.Queue[Callable[[Any], object] | None] = queue.Queue(WAITING)
        self._thread: threading.Thread | None = None
        self._off = self._done = self._held = False
        self._told: dict[str, int] = {}
        self._before: dict[str, int] = {}

    @property
    def name(self) -> str:
        """The tracker's name, as in `logger=`."""
        return self._label

    @property
    def version(self) -> str:
        """None of its own: the run folder tells runs apart."""
        return ""

    @property
    def works(self) -> bool:
        """Whether no error has switched the tracker off."""
        return not self._off

    def start(self) -> None:
        """Open the tracker now; else the first call does."""
        if self._thread is None and not self._off and getattr(rank_zero_only, "rank", 0) == 0:
            self._thread = threading.Thread(target=self._work, name=f"tracker-{self._label}", daemon=True)
            self._thread.start()

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Numbers of one step."""
        row = dict(metrics)
        if self._is_new("val/loss" if "val/loss" in row else "step", step):
            self._put(lambda tracker: tracker.log_metrics(row, step))

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: the run's config is given when the tracker is opened, with its provenance."""

    def log_text(
        self, key: str, columns: Sequence[str], data: Sequence[Sequence[str]], step: int | None = None,
    ) -> None:
        """A table of texts, where the tracker has tables."""

        def call(tracker: Any) -> None:
            if hasattr(tracker, "log_text"):
                tracker.log_text(key=key, columns=list(columns), data=[list(row) for row in data], step=step)

        if self._is_new(f"text {key}", step):
            self._put(call)

    def correct(self, knob: str, value: Any, reason: str) -> None:
        """A knob that was derived anew while the tracker was open, where the tracker keeps a config."""
        self._put(lambda tracker: tracker.correct(knob, value, reason) if hasattr(tracker, "correct") else None)

    def hold(self) -> None:
        """Stay open where a fit fails, until `let_go`: the run may go on from an earlier step with another trainer."""
        self._held = True

    def go_back(self) -> None:
        """The run goes on from an earlier step: what was told of the steps up to now is not told twice."""
        self._before = dict(self._told)

    def let_go(self) -> None:
        """The run has failed for good: close as such."""
        self._held = False
        self.finalize("failed")

    def save(self) -> None:
        """Let the tracker write what it holds."""
        self._put(lambda tracker: tracker.save())

    def finalize(self, status: str) -> None:
        """Close the tracker, waiting as long as `patience` says; a call after that is ignored."""
        if self._thread is None or self._off or self._done or (self._held and status == "failed"):
            return
        self._put(lambda tracker: tracker.finalize(status))
        self._put(None)
        self._done = True
        seconds = self._patience()
        self._thread.join(seconds)
        if self._thread.is_alive():
            self._switch_off(f"did not finish within {seconds:g} s", "is left behind")

    def _is_new(self, kind: str, step: int | None) -> bool:
        if step is None:
            return True
        self._told[kind] = max(step, self._told.get(kind, step))
        return step > self._before.get(kind, -1)

    def _put(self, call: Callable[[Any], object] | None) -> None:
        if self._off or self._done:
            return
        self.start()
        if self._thread is None:
            return
        try:
            self._calls.put_nowait(call)
        except queue.Full:
            self._switch_off(f"fell {WAITING} rows behind")

    def _work(self) -> None:
        # BaseException: a tracker that calls sys.exit on its thread must not go unnoticed either.
        tracker = None
        try:
            tracker = self._open()
            while (call := self._calls.get()) is not None and not self._off:
                call(tracker)
        except BaseException as error:
            self._switch_off(f"failed ({type(error).__name__}: {_take_first_line(error)})")
        # A tracker that failed is closed as well, or it would stand in the way of the next run of this process.
        try:
            if self._close is not None and tracker is not None:
                self._close(tracker)
        except BaseException as error:
            self._switch_off(f"could not be closed ({type(error).__name__}: {_take_first_line(error)})")

    def _switch_off(self, what: str, then: str = "is switched off; the run goes on") -> None:
        if not self._off:
            self._off = True
            hint = self._hint and f" {self._hint}"
            log.warning("logger=%s %s and %s; metrics.jsonl has every number.%s", self._label, what, then, hint)


def guard_logger(logger: Any) -> GuardedLogger:
    """`logger` behind a guard; one that has a guard already is returned as it is."""
    return logger if isinstance(logger, GuardedLogger) else GuardedLogger(lambda: logger, name=type(logger).__name__)


def _take_first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0][:200]
