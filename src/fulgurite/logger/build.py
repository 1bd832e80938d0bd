"""Builds the trackers of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fulgurite.config.schema import build
from fulgurite.logger.guard import GuardedLogger, guard_logger
from fulgurite.logger.tracked_run import TrackedRun


def build_loggers(loggers: Mapping[str, Any], run: TrackedRun) -> list[GuardedLogger]:
    """Returns a guarded tracker for each option of `logger`. Raises ConfigError if one cannot be built."""
    return [guard_logger(build(config, run)) for config in loggers.values() if config is not None]
