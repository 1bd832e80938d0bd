"""Builds the trackers of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fulgurite.config.schema import build
from fulgurite.logger.guard import GuardedLogger, guard_logger


def build_loggers(
    loggers: Mapping[str, Any], settings: dict[str, Any], run_dir: Path, provenance: dict[str, Any],
    summary: dict[str, Any],
) -> list[GuardedLogger]:
    """Returns a guarded tracker for each option of `logger`. Raises ConfigError if one cannot be built.

    `settings` contains the value of each parameter of the run under its path, such as `optim.lr`.
    """
    return [
        guard_logger(build(config, settings=settings, run_dir=run_dir, provenance=provenance, summary=summary))
        for config in loggers.values() if config is not None
    ]
