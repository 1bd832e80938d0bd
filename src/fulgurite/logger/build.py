"""All trackers of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fulgurite.config.run import RunConfig
from fulgurite.config.schema import build
from fulgurite.logger.guard import GuardedLogger, guard_logger


def build_loggers(
    run: RunConfig, run_dir: Path, provenance: dict[str, Any], summary: dict[str, Any]
) -> list[GuardedLogger]:
    """One guarded tracker for each option under `logger`. Raises ConfigError where one cannot be built."""
    return [
        guard_logger(build(config, run=run, run_dir=run_dir, provenance=provenance, summary=summary))
        for config in run.logger.values() if config is not None
    ]
