"""Four steps of a toy stage, tracked."""

from __future__ import annotations

from pathlib import Path

from tests.callback.toy_stage import fit

from fulgurite.callback.metrics_logger import MetricsLogger
from fulgurite.config.compose import compose
from fulgurite.logger.build import build_loggers
from fulgurite.logger.metrics_file import MetricsFile
from fulgurite.logger.tracked_run import TrackedRun


def track_steps(folder: Path, words: list[str]) -> None:
    """Tracks four steps with an evaluation after each second one; every tracker has to work to the end."""
    trackers = build_loggers(compose(words).run.logger, TrackedRun(folder))
    record = MetricsLogger(MetricsFile(folder / "metrics.jsonl"), log_every=1, total_steps=4)
    fit([record], steps=4, eval_every=2, loggers=trackers, folder=folder)
    assert all(tracker.works for tracker in trackers)
