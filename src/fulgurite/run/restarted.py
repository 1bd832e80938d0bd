"""Finds the run of a Slurm job that was started again, so that the same words continue it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fulgurite.config.override_checks import read_text_value
from fulgurite.config.override_names import read_name
from fulgurite.config.overrides import quote_verbatim
from fulgurite.strategy.slurm_job import find_job

JOB = "slurm_job"
"""The key of status.json with the number of the job."""
FOLDERS = ("run_dir", "resume.run")
UNFINISHED = ("running", "stopped", "failed")
"""States of a run that a job may continue."""


def continue_words(words: Sequence[str], environment: Mapping[str, str], root: Path = Path("runs")) -> list[str]:
    """Returns the words, with the run folder that the job had before if Slurm has started it again.

    The words are returned as they are if they name a folder, or if the job had begun no run with the same words.
    """
    job = find_job(environment)
    if job is None or job.restarts == 0 or any(read_name(word) in FOLDERS for word in words):
        return list(words)
    found = [
        path.parent for path in root.glob("*/*/status.json")
        if _read(path).get(JOB) == job.number and _read_words(path.parent) == list(words)
    ]
    newest = max(found, key=lambda folder: folder.stat().st_mtime, default=None)
    return list(words) if newest is None else [*words, f"run_dir={quote_verbatim(newest)}"]


def find_finished(words: Sequence[str], environment: Mapping[str, str]) -> Path | None:
    """Returns the run folder that the words name if Slurm has started this job again although that run has ended, as
    in a script of several runs."""
    job = find_job(environment)
    if job is None or job.restarts == 0:
        return None
    for word in words:
        if read_name(word) in FOLDERS:
            folder = Path(read_text_value(word)).expanduser()
            state = _read(folder / "status.json").get("state", "running")
            return None if state in UNFINISHED else folder
    return None


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _read_words(folder: Path) -> list[str]:
    """Returns the words of a run but for its folder, which the launcher of several processes adds."""
    words = _read(folder / "provenance.json").get("overrides")
    return [word for word in words if read_name(word) != "run_dir"] if isinstance(words, list) else []
