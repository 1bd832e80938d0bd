"""Trackio by its own library: Lightning has no logger for it."""

from __future__ import annotations

import logging
from typing import Any

from fulgurite.logger.config import Trackio
from fulgurite.logger.guard import GuardedLogger, Histogram
from fulgurite.logger.tracked_run import TrackedRun, make_id, read_id, write_id

log = logging.getLogger(__name__)

LEVELS = {"note": "INFO", "warning": "WARN", "stop": "ERROR", "error": "ERROR"}
"""Trackio's level of an alert by the severity of a finding."""


def build(config: Trackio, run: TrackedRun) -> GuardedLogger:
    """Returns the started tracker. Raises nothing."""
    found = GuardedLogger(
        lambda: TrackioRun(config, run), name="trackio", patience=lambda: 35.0, close=lambda tracker: tracker.close()
    )
    found.start()
    return found


class TrackioRun:
    """A Trackio run as a tracker. Trackio finds a run by its name, so each run folder has a name of its own, which a
    resumed run finds there."""

    def __init__(self, config: Trackio, run: TrackedRun) -> None:
        import trackio

        self._library = trackio
        _silence(trackio)
        known = read_id(run.folder, "trackio")
        name = known or write_id(run.folder, "trackio", f"{run.name}-{make_id()[:4]}")
        facts = {name.lstrip("_"): value for name, value in run.describe(config).items()}
        self._run = trackio.init(
            config.project, name=name, group=config.group, space_id=config.space_id, config=facts,
            resume="allow" if known else "never", private=config.private, embed=False,
        )

    def log_metrics(self, metrics: dict[str, float], step: int | None) -> None:
        """Sends the numbers of one step."""
        self._run.log(dict(metrics), step=step)

    def log_text(self, key: str, columns: list[str], data: list[list[str]], step: int | None = None) -> None:
        """Sends a table of texts."""
        self._run.log({key: self._library.Table(columns=columns, data=data)}, step=step)

    def log_histograms(self, histograms: dict[str, Histogram], step: int) -> None:
        """Sends histograms."""
        drawn = {name: self._library.Histogram(np_histogram=pair) for name, pair in histograms.items()}
        self._run.log(drawn, step=step)

    def alert(self, rule: str, severity: str, text: str, step: int) -> None:
        """Sends a finding as an alert."""
        self._run.alert(rule, text, level=self._library.AlertLevel[LEVELS[severity]], step=step)

    def save(self) -> None:
        """Does nothing: Trackio writes twice a second."""

    def finalize(self, status: str) -> None:
        """Does nothing: `close` ends the run."""

    def close(self) -> None:
        """Writes what is left, and ends the run."""
        self._run.finish()


def _silence(library: Any) -> None:
    """Sends what Trackio prints to the log: it would be printed into the progress line.

    Trackio 0.43 has no parameter for it; its functions look `print` up in their modules.
    """
    import trackio.run
    import trackio.utils

    for module in (library, trackio.run, trackio.utils):
        vars(module)["print"] = lambda *words, **named: log.debug(" ".join(map(str, words)))
