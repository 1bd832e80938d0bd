"""The trackers of a run."""

from __future__ import annotations

from pathlib import Path

from fulgurite.config.compose import compose
from fulgurite.logger.build import build_loggers


def test_a_run_has_a_tracker_for_each_option(tmp_path: Path) -> None:
    assert build_loggers(compose(["logger=none"]).run.logger, {}, tmp_path, {}, {}) == []
    names = [
        tracker.name
        for tracker in build_loggers(compose(["logger=[csv,tensorboard]"]).run.logger, {}, tmp_path, {}, {})
    ]
    assert names == ["csv", "tensorboard"]
