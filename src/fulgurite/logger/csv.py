"""Writes metrics.csv, for spreadsheets: the rows of metrics.jsonl as columns.

Lightning's CSVLogger is not used: it deletes the file of a resumed run, and reorders the columns when keys appear.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from fulgurite.files.atomic import write_file
from fulgurite.files.json import read_object
from fulgurite.logger.config import Csv
from fulgurite.logger.guard import GuardedLogger
from fulgurite.logger.metrics_file import read_rows
from fulgurite.logger.tracked_run import TrackedRun


def build(config: Csv, run: TrackedRun) -> GuardedLogger:
    """Returns the tracker, which writes `metrics.csv` in the run folder at each evaluation and at the end."""
    return GuardedLogger(lambda: CsvView(run.folder), name="csv")


class CsvView:
    """Keeps metrics.csv a copy of metrics.jsonl, which is written first."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir

    def log_metrics(self, metrics: dict[str, float], step: int | None) -> None:
        """Copies at an evaluation only: copying at each step would cost the square of the run's length."""
        if "val/loss" in metrics:
            self._copy()

    def save(self) -> None:
        """Does nothing, because nothing is buffered."""

    def finalize(self, status: str) -> None:
        """Copies the last rows."""
        self._copy()

    def _copy(self) -> None:
        source = self._run_dir / "metrics.jsonl"
        if source.exists():
            rows = [*read_rows(source)[0], *read_evaluations(self._run_dir / "eval.json")]
            write_file(self._run_dir / "metrics.csv", to_csv(rows))


def read_evaluations(path: Path) -> list[dict[str, Any]]:
    """Returns a row for each evaluation of a run on its validation set, from its eval.json; none if there is no whole
    file."""
    try:
        found = read_object(path).get("evaluations", [])
        return [
            {"step": one["step"]} | {f"eval/{name}": value for name, value in one["numbers"].items()}
            for one in found if one["step"] is not None and one["data"].get("part") in (None, "validation")
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def to_csv(rows: list[dict[str, Any]]) -> str:
    """Returns the rows as CSV, a column for each key in the order of its first appearance; a cell is empty if the row
    lacks the key."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    out = io.StringIO()
    table = csv.DictWriter(out, columns, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return out.getvalue()
