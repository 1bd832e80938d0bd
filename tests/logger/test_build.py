"""The trackers of a run."""

from __future__ import annotations

from pathlib import Path

from fulgurite.config.compose import compose
from fulgurite.logger.build import build_loggers
from fulgurite.logger.tracked_run import TrackedRun


def test_a_run_has_a_tracker_for_each_option(tmp_path: Path) -> None:
    assert build_loggers(compose(["logger=none"]).run.logger, TrackedRun(tmp_path)) == []
    names = [
        tracker.name
        for tracker in build_loggers(compose(["logger=[csv,tensorboard]"]).run.logger, TrackedRun(tmp_path))
    ]
    assert names == ["csv", "tensorboard"]
