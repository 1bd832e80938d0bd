"""The runs under the board's folders, whoever started them. Only what changed since the last time is read again."""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fulgurite.board.http_error import HttpError
from fulgurite.board.metrics import LOSS, MetricsReader, list_finite
from fulgurite.board.roots import Roots, make_run_id
from fulgurite.checkpoint.folder import PARTS, list_steps, name_step
from fulgurite.files.json import read_json
from fulgurite.language.message import UserMessage, message
from fulgurite.run.listing import DEPTH, MARKS, LoggedNumbers, RunSummary, find_differences, summarize_run
from fulgurite.run.status import LOCK

RUN_MARKS = frozenset(MARKS)
SWEEP_MARKS = frozenset({"study.db", "trials.jsonl"})
"""A folder with one of these files, and none of a run, is that of a search."""
SCAN_EVERY = 1.0
"""Seconds for which a list of folders is used again."""
MOST_READERS, MOST_ROWS = 32, 500_000
"""Runs whose curves stay in memory, and their rows: 100,000 take about 15 MB."""
LARGE = 1 << 20
"""Bytes of a metrics.jsonl that is not read twice if that can be avoided."""
PACE_SECONDS, PACE_STEPS = 120.0, 2
"""The newest seconds that a forecast is made of, and the fewest steps in them."""
SPEEDS = 20
"""The newest rows of which a run's tokens per second are the median."""

Signature = tuple[tuple[int, int, int] | None, ...]


class FileMemory:
    """The JSON files of one folder. A file is read again only if its time, size or inode has changed."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[tuple[int, int, int], Any]] = {}

    def read(self, path: Path) -> Any:
        """Returns the value that a file holds, which must not be changed. Raises OSError or ValueError."""
        found = path.stat()
        seen = found.st_mtime_ns, found.st_size, found.st_ino
        known = self._known.get(path.name)
        if known is None or known[0] != seen:
            known = self._known[path.name] = (seen, read_json(path))
        return known[1]

    def forget(self) -> None:
        """Frees what was read."""
        self._known.clear()


@dataclass(slots=True)
class KnownRun:
    """A run folder and what was read of it."""

    id: str
    folder: Path
    summary: RunSummary
    status: Mapping[str, Any] = field(default_factory=dict)
    signature: Signature = ()
    checkpoint: int | None = None
    """The step of the newest checkpoint that has all its parts."""
    speed: float | None = None
    pace: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=240))
    """When which step was seen, by this process's clock."""
    sweep: str | None = None
    files: FileMemory = field(default_factory=FileMemory)
    """Of a run that trains, whose folder is read again and again."""

    @property
    def is_live(self) -> bool:
        """Whether its process is running."""
        return self.summary.state == "running"

    def note_step(self, now: float) -> None:
        """Remembers when a step was seen first, for the forecast."""
        step = self.summary.steps
        # a resumed run begins again at its checkpoint: its earlier pace counts no more
        if self.pace and step < self.pace[-1][1]:
            self.pace.clear()
        if not self.pace or step > self.pace[-1][1]:
            self.pace.append((now, step))

    def forecast(self) -> float | None:
        """Returns the seconds that are left at the pace of the newest steps; None while it is too early to know."""
        total, newest = self.summary.total_steps, self.pace[-1] if self.pace else None
        if not self.is_live or total is None or newest is None:
            return None
        first = next(seen for seen in self.pace if newest[0] - seen[0] <= PACE_SECONDS)
        steps = newest[1] - first[1]
        return None if steps < PACE_STEPS else max(total - newest[1], 0) * (newest[0] - first[0]) / steps

    def find_obstacle(self) -> UserMessage | None:
        """Returns why the run cannot be resumed; None if it can."""
        run, step = self.summary, self.checkpoint
        if self.is_live:
            return message("This run is still running.")
        if not run.knobs:
            return message("The file provenance.json of this run cannot be read.")
        if step is None:
            return message("This run has no checkpoint; start it again.")
        if run.state in ("finished", "diverged") or (run.total_steps is not None and step >= run.total_steps):
            return message("This run has come to its end, step {step}; nothing is left to resume.", step=step)
        return None


class RunCatalogue:
    """All runs and searches under the roots, by id. Methods can be called from several threads."""

    def __init__(self, roots: Roots) -> None:
        self.roots = roots
        self._lock = threading.RLock()
        self._known: dict[str, KnownRun] = {}
        self._readers: OrderedDict[str, MetricsReader] = OrderedDict()
        self._scanned = -SCAN_EVERY
        self._runs: list[Path] = []
        self._sweeps: list[Path] = []

    def list_runs(self) -> list[KnownRun]:
        """Returns every run, the newest first. A damaged folder is listed with its troubles."""
        with self._lock:
            self._scan()
            found = [run for run in (self._refresh(folder) for folder in self._runs) if run is not None]
            self._known = {run.id: run for run in found}
            return sorted(found, key=lambda run: (run.summary.started or 0.0, run.summary.folder), reverse=True)

    def list_sweeps(self) -> list[Path]:
        """Returns the folders of all searches."""
        with self._lock:
            self._scan()
            return list(self._sweeps)

    def find_run(self, run_id: str) -> KnownRun:
        """Returns a run by its id. Raises HttpError if there is none under the roots."""
        with self._lock:
            known = self._known.get(run_id)
            if known is None or not known.folder.is_dir():
                self._scanned = -SCAN_EVERY
                self.list_runs()
                known = self._known.get(run_id)
            found = self._refresh(known.folder) if known is not None else None
            if found is None:
                raise HttpError(404, message("There is no such run in the folders of this board."))
            self._known[run_id] = found
            return found

    def find_id(self, folder: Path) -> str | None:
        """Returns the id of a folder if a run has begun in it."""
        is_run = any((folder / mark).is_file() for mark in MARKS)
        return make_run_id(folder) if is_run and self.roots.contains(folder) else None

    def find_sweep_id(self, folder: Path) -> str | None:
        """Returns the id of a folder if a search has begun in it."""
        is_sweep = any((folder / mark).is_file() for mark in SWEEP_MARKS)
        return make_run_id(folder) if is_sweep and self.roots.contains(folder) else None

    def get_reader(self, run: KnownRun) -> MetricsReader:
        """Returns the reader of a run's metrics, which remembers what it has read."""
        with self._lock:
            # taken out and put back at the end, so that the first of the dict is the one longest unused
            reader = self._readers.pop(run.id, None) or MetricsReader(run.folder / "metrics.jsonl")
            self._readers[run.id] = reader
            # the one that is asked for stays, however long it is
            while len(self._readers) > 1 and (len(self._readers) > MOST_READERS or self._count_rows() > MOST_ROWS):
                self._readers.popitem(last=False)
            return reader

    def _count_rows(self) -> int:
        return sum(reader.rows for reader in self._readers.values())

    def _scan(self) -> None:
        now = time.monotonic()
        if now - self._scanned < SCAN_EVERY:
            return
        found = list(dict.fromkeys(place for root in self.roots.folders for place in _walk(root, 0)))
        self._runs = [folder for folder, is_run in found if is_run]
        self._sweeps = [folder for folder, is_run in found if not is_run]
        self._scanned = now

    def _refresh(self, folder: Path) -> KnownRun | None:
        """Reads a run folder again if it has changed, or if its process may have ended. Returns None if it is gone, or
        if one of its files is a link."""
        signature = _sign(folder)
        if signature is None:
            return None
        run_id = make_run_id(folder)
        known = self._known.get(run_id)
        if known is not None and known.signature == signature and not known.is_live:
            return known
        if known is None:
            known = KnownRun(run_id, folder, RunSummary(str(folder)))
        known.summary = summarize_run(folder, lambda path: self._read_numbers(known, path), known.files.read)
        known.status, known.signature = _read_status(folder, known.files), signature
        known.checkpoint = _find_checkpoint(folder)
        known.sweep = make_run_id(folder.parent) if folder.parent in self._sweeps else None
        if known.is_live:
            known.note_step(time.monotonic())
        else:
            known.files.forget()
        return known

    def _read_numbers(self, known: KnownRun, path: Path) -> LoggedNumbers:
        if not path.exists():
            raise FileNotFoundError(path)
        # the curves of a run that trains are read from where they were; others are read once and forgotten, unless
        # that takes long
        keeps = (known.folder / LOCK).exists() or known.id in self._readers or path.stat().st_size > LARGE
        reader = self.get_reader(known) if keeps else MetricsReader(path)
        reader.refresh()
        speeds = list_finite(reader, "train/tokens_per_second")[-SPEEDS:]
        known.speed = statistics.median(speeds) if speeds else None
        return LoggedNumbers(reader.step, list_finite(reader, LOSS), list_finite(reader, "val/loss"), reader.bad)


def _walk(folder: Path, depth: int) -> Iterator[tuple[Path, bool]]:
    """Yields the folders of runs and of searches, and whether each is a run. Follows no links."""
    try:
        with os.scandir(folder) as entries:
            names = {entry.name: entry.is_dir(follow_symlinks=False) for entry in entries}
    except OSError:
        return
    if RUN_MARKS & names.keys():
        yield folder, True
        return
    if SWEEP_MARKS & names.keys():
        yield folder, False
    if depth < DEPTH:
        for name in sorted(names):
            if names[name] and not name.startswith("."):
                yield from _walk(folder / name, depth + 1)


def _sign(folder: Path) -> Signature | None:
    """Returns the sizes and times of what a summary is made of; None if there is no folder, or if a file is a link,
    which could lead out of the roots."""
    found: list[tuple[int, int, int] | None] = []
    for name in (*MARKS, "checkpoints"):
        try:
            seen = os.lstat(folder / name)
        except OSError:
            found.append(None)
            continue
        # S_IFMT and S_IFLNK: a symbolic link
        if seen.st_mode & 0o170000 == 0o120000:
            return None
        found.append((seen.st_mtime_ns, seen.st_size, seen.st_ino))
    return tuple(found) if any(found[: len(MARKS)]) else None


def _read_status(folder: Path, files: FileMemory) -> Mapping[str, Any]:
    try:
        found = files.read(folder / "status.json")
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _find_checkpoint(folder: Path) -> int | None:
    """Returns the step of the newest checkpoint that has all its parts. Their hashes are compared when it is loaded."""
    place = folder / "checkpoints"
    try:
        steps = list_steps(place)
    except OSError:
        return None
    has_parts = (step for step in reversed(steps) if all((place / name_step(step) / part).is_file() for part in PARTS))
    return next(has_parts, None)


def describe_differences(runs: list[KnownRun]) -> dict[str, dict[str, Any]]:
    """Returns the parameters in which the runs differ: for each, the value of each run by its id."""
    table = find_differences([run.summary for run in runs])
    return {
        name: {run.id: value for run, value in zip(runs, column, strict=True)} for name, column in table.items()
    }
