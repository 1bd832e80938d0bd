"""Runs a tracker on a thread of its own, and switches it off at its first error, so that it cannot stop a run."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from fulgurite.language.library_errors import quote_foreign
from fulgurite.language.message import UserMessage, message

log = logging.getLogger(__name__)

Histogram = tuple[list[float], list[float]]
"""The number of values in each bin, and the edges of the bins, one more than there are bins."""
WAITING = 10_000
"""Calls that may wait for a slow tracker; one more switches it off."""


class GuardedLogger(Logger):  # type: ignore[misc]
    """Passes calls on to a tracker: they return at once, and an error ends the tracker, never the run.

    `open_` makes the tracker and `close` ends it; both run on the thread. `finalize` waits at most `patience()`
    seconds. `hint` is the advice to print if the tracker fails. Lightning itself calls loggers unguarded.
    """

    def __init__(
        self, open_: Callable[[], Any], *, name: str, close: Callable[[Any], None] | None = None,
        patience: Callable[[], float] = lambda: 5.0, hint: UserMessage | None = None,
    ) -> None:
        super().__init__()
        self._open, self._close, self._patience, self._label, self._hint = open_, close, patience, name, hint
        self._calls: queue.Queue[Callable[[Any], object] | None] = queue.Queue(WAITING)
        self._thread: threading.Thread | None = None
        self._off = self._done = self._held = False
        self._sent: dict[str, int] = {}
        self._before: dict[str, int] = {}

    @property
    def name(self) -> str:
        """The name of the tracker, as in `logger=`."""
        return self._label

    @property
    def version(self) -> str:
        """Empty: each run has a folder of its own."""
        return ""

    @property
    def works(self) -> bool:
        """Whether no error has switched the tracker off."""
        return not self._off

    def start(self) -> None:
        """Opens the tracker now; otherwise the first call opens it."""
        if self._thread is None and not self._off and getattr(rank_zero_only, "rank", 0) == 0:
            self._thread = threading.Thread(target=self._work, name=f"tracker-{self._label}", daemon=True)
            self._thread.start()

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Sends the metrics of one step."""
        row = dict(metrics)
        if self._is_new("val/loss" if "val/loss" in row else "step", step):
            self._put(lambda tracker: tracker.log_metrics(row, step))

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Does nothing: the tracker gets the config of the run when it is opened, with its provenance."""

    def log_text(
        self, key: str, columns: Sequence[str], data: Sequence[Sequence[str]], step: int | None = None,
    ) -> None:
        """Sends a table of texts, if the tracker has tables."""

        def call(tracker: Any) -> None:
            if hasattr(tracker, "log_text"):
                tracker.log_text(key=key, columns=list(columns), data=[list(row) for row in data], step=step)

        if self._is_new(f"text {key}", step):
            self._put(call)

    def correct(self, knob: str, value: Any, reason: str) -> None:
        """Sends a parameter that was derived again while the tracker was open, if the tracker stores a config."""
        self._send("correct", knob, value, reason)

    def alert(self, rule: str, severity: str, text: str, step: int) -> None:
        """Sends a finding of the monitor, if the tracker has alerts or tags."""
        if self._is_new(f"alert {rule}", step):
            self._send("alert", rule, severity, text, step)

    def log_checkpoint(self, folder: Path, step: int, kind: str) -> None:
        """Sends a checkpoint, if the tracker keeps those of this kind: `all` when it is saved, `last` and `best` at the
        end of the run."""
        self._send("log_checkpoint", folder, step, kind)

    def log_histograms(self, histograms: Mapping[str, Histogram], step: int) -> None:
        """Sends histograms by name, if the tracker draws them."""
        if self._is_new("histograms", step):
            self._send("log_histograms", dict(histograms), step)

    def hold(self) -> None:
        """Keeps the tracker open if a fit fails, until `let_go`: the run may continue from an earlier step with another
        trainer."""
        self._held = True

    def go_back(self) -> None:
        """Notes that the run continues from an earlier step: the steps up to now are not sent again."""
        self._before = dict(self._sent)

    def let_go(self) -> None:
        """Closes the tracker of a run that has finally failed."""
        self._held = False
        self.finalize("failed")

    def save(self) -> None:
        """Lets the tracker write its buffers."""
        self._put(lambda tracker: tracker.save())

    def finalize(self, status: str) -> None:
        """Closes the tracker, and waits at most `patience` seconds; later calls are ignored."""
        if self._thread is None or self._off or self._done or (self._held and status == "failed"):
            return
        self._put(lambda tracker: tracker.finalize(status))
        # None ends the loop of the thread.
        self._put(None)
        self._done = True
        seconds = self._patience()
        self._thread.join(seconds)
        if self._thread.is_alive():
            self._switch_off(message(
                "logger={name} did not finish within {seconds:g} s and is abandoned", name=self._label, seconds=seconds
            ))

    def _is_new(self, kind: str, step: int | None) -> bool:
        if step is None:
            return True
        self._sent[kind] = max(step, self._sent.get(kind, step))
        return step > self._before.get(kind, -1)

    def _send(self, method: str, *values: Any) -> None:
        """Calls a method of the tracker, if it has it."""

        def call(tracker: Any) -> None:
            if (own := getattr(tracker, method, None)) is not None:
                own(*values)

        self._put(call)

    def _put(self, call: Callable[[Any], object] | None) -> None:
        if self._off or self._done:
            return
        self.start()
        if self._thread is None:
            return
        try:
            # Never waits: a slow tracker must not slow down training.
            self._calls.put_nowait(call)
        except queue.Full:
            self._switch_off(message(
                "logger={name} fell {count} rows behind and is switched off; the run goes on",
                name=self._label, count=WAITING,
            ))

    def _work(self) -> None:
        # BaseException: a tracker that calls sys.exit on its thread must not go unnoticed either.
        tracker = None
        try:
            tracker = self._open()
            while (call := self._calls.get()) is not None and not self._off:
                call(tracker)
        except BaseException as error:
            self._switch_off(message(
                "logger={name} failed ({error}) and is switched off; the run goes on",
                name=self._label, error=quote_foreign(_describe(error), 300),
            ))
        # A tracker that failed is closed as well: an open one disturbs the next run of this process.
        try:
            if self._close is not None and tracker is not None:
                self._close(tracker)
        except BaseException as error:
            self._switch_off(message(
                "logger={name} could not be closed ({error}); the run goes on",
                name=self._label, error=quote_foreign(_describe(error), 300),
            ))

    def _switch_off(self, what: UserMessage) -> None:
        if self._off:
            return
        self._off = True
        if self._hint:
            log.warning(message("{what}. metrics.jsonl has every number. {hint}", what=what, hint=self._hint))
        else:
            log.warning(message("{what}. metrics.jsonl has every number.", what=what))


def guard_logger(logger: Any) -> GuardedLogger:
    """Returns `logger` in a guard; one that has a guard already is returned as it is."""
    return logger if isinstance(logger, GuardedLogger) else GuardedLogger(lambda: logger, name=type(logger).__name__)


def _describe(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
