"""Finds what is new since the last look, for pages that follow a run or the list of runs.

A watcher only compares sizes and times of files until one of them has changed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fulgurite.board.findings import read_findings
from fulgurite.board.metrics import MetricsReader
from fulgurite.board.run_view import describe_run
from fulgurite.board.runs import KnownRun, RunCatalogue
from fulgurite.board.samples import read_samples
from fulgurite.board.sweeps import sign_sweep

FOUND = ("troubles.json", "watch.jsonl")
FILES = ("status.json", "provenance.json", "metrics.jsonl", "run.lock", "samples.jsonl", *FOUND)
LOCK_EVERY = 2.0
"""Seconds after which the lock of a run is tested again: a killed process changes no file."""
MOST_SENT = 400
"""Rows that are sent one by one before the curves are sent again with few points."""
NOISE = ("seconds", "eta")
"""Numbers of a run that change by themselves, and are not worth an event."""

Event = tuple[str, Any] | tuple[str, Any, str]
"""The name of an event, its data, and the mark with which a browser asks for what comes after it."""


class RunWatcher:
    """What a page that shows a run has to be sent. Without `after` it begins with the whole curves."""

    def __init__(self, catalogue: RunCatalogue, run_id: str, after: str = "", points: int = 800) -> None:
        self._catalogue, self._id, self._points, self._mark = catalogue, run_id, points, after
        self._folder: Path | None = None
        self._files: tuple[Any, ...] = ()
        self._tested = 0.0
        self._sent = 0
        self._shown: dict[str, Any] = {}
        self._found: list[dict[str, Any]] | None = None
        self._samples: list[dict[str, Any]] | None = None

    def find(self) -> None:
        """Finds the run. Raises HttpError if there is none."""
        self._folder = self._catalogue.find_run(self._id).folder

    def poll(self) -> list[Event]:
        """Returns the events since the last call. Raises HttpError if the run is gone."""
        if self._folder is None:
            self.find()
        assert self._folder is not None
        folder = self._folder
        files, now = _sign_files(folder, FILES), time.monotonic()
        # nothing was written, and the process was known to be alive a moment ago
        if files == self._files and now - self._tested < LOCK_EVERY:
            return []
        changed = [name for name, old, new in zip(FILES, self._files or [()] * len(FILES), files, strict=True)
                   if old != new]
        self._files, self._tested = files, now
        run = self._catalogue.find_run(self._id)
        events = self._read_rows(folder, self._catalogue.get_reader(run)) if "metrics.jsonl" in changed else []
        events += self._read_findings(folder) if {*FOUND} & {*changed} else []
        events += self._read_samples(folder) if "samples.jsonl" in changed else []
        return [*self._read_status(run), *events]

    def _read_status(self, run: KnownRun) -> list[Event]:
        shown = describe_run(run, self._catalogue.roots)
        if {k: v for k, v in shown.items() if k not in NOISE} == {
            k: v for k, v in self._shown.items() if k not in NOISE
        }:
            return []
        self._shown = shown
        return [("status", shown)]

    def _read_rows(self, folder: Path, reader: MetricsReader) -> list[Event]:
        reader.refresh()
        found = reader.read_after(self._mark) if self._mark and self._sent <= MOST_SENT else None
        if found is None:
            self._sent = 0
            # the curves are thinned out, but a step that a finding is about keeps its point
            steps = [row["step"] for row in self._found or read_findings(folder)]
            answer = reader.describe(self._points, steps)
            self._mark = answer["after"]
            return [("reset", answer, self._mark)]
        self._mark = found["after"]
        self._sent += len(found["rows"])
        return [("rows", found, self._mark)] if found["rows"] else []

    def _read_findings(self, folder: Path) -> list[Event]:
        found = read_findings(folder)
        if found == self._found or (self._found is None and not found):
            return []
        self._found = found
        return [("findings", {"findings": found})]

    def _read_samples(self, folder: Path) -> list[Event]:
        samples = read_samples(folder)
        if samples == self._samples or (self._samples is None and not samples):
            return []
        self._samples = samples
        return [("samples", {"samples": samples})]


class ListWatcher:
    """Whether the list of runs and searches has changed, or what is busy with them (`list_busy`)."""

    PROGRESS_EVERY = 5.0
    """Seconds after which steps that were taken count as a change."""

    def __init__(self, catalogue: RunCatalogue, list_busy: Callable[[], Sequence[str]] = tuple) -> None:
        self._catalogue, self._list_busy = catalogue, list_busy
        self._seen: tuple[Any, ...] | None = None
        self._steps: tuple[Any, ...] = ()
        self._sent = 0.0

    def poll(self) -> list[Event]:
        """Returns the event `runs` if there is another run, another state, or only `progress`."""
        runs = self._catalogue.list_runs()
        seen = (
            tuple((run.id, run.summary.state, run.summary.started) for run in runs),
            tuple((str(folder), sign_sweep(folder)) for folder in self._catalogue.list_sweeps()),
            tuple(self._list_busy()),  # a command ends a little after its run
        )
        steps, now = tuple(run.summary.steps for run in runs), time.monotonic()
        is_first, changed = self._seen is None, seen != self._seen
        if not changed and (steps == self._steps or now - self._sent < self.PROGRESS_EVERY):
            return []
        self._seen, self._steps, self._sent = seen, steps, now
        return [] if is_first else [("runs", {"runs": len(runs), "progress": not changed})]


def _sign_files(folder: Path, names: tuple[str, ...]) -> tuple[Any, ...]:
    found: list[tuple[int, int, int]] = []
    for name in names:
        try:
            seen = os.lstat(folder / name)
            found.append((seen.st_mtime_ns, seen.st_size, seen.st_ino))
        except OSError:
            found.append((0, 0, 0))
    return tuple(found)
