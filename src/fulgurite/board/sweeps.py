"""The searches under the board's folders: their trials, the best one, and which parameters matter.

The study is read with sqlite3 itself, read-only and in one short transaction: Optuna would create tables, and takes a
second to import. Its tables are those of Optuna 5, which the tests compare.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fulgurite.board.metrics import to_number
from fulgurite.board.roots import Roots, make_run_id
from fulgurite.files.json import read_json
from fulgurite.run.listing import MARKS

BUSY_MS = 200
"""Milliseconds that a reader waits while a search writes."""
MOST_TRIALS = 5_000
IMPORTANCE_SECONDS = 30.0
FEWEST = 4
"""Complete trials from which importance is computed, as on the terminal."""
TRIALS = """SELECT t.trial_id, t.number, t.state, v.value FROM trials t
LEFT JOIN trial_values v ON v.trial_id = t.trial_id AND v.objective = 0
WHERE t.study_id = ? ORDER BY t.number LIMIT ?"""
PARAMETERS = """SELECT p.trial_id, p.param_name, p.param_value, p.distribution_json FROM trial_params p
JOIN trials t ON t.trial_id = p.trial_id WHERE t.study_id = ? ORDER BY p.param_id"""
ATTRIBUTES = """SELECT a.trial_id, a.key, a.value_json FROM trial_user_attributes a
JOIN trials t ON t.trial_id = a.trial_id WHERE t.study_id = ?"""


@dataclass(slots=True)
class FoundTrial:
    """One trial of a search."""

    number: int
    state: str
    value: float | None
    params: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """The name of its run folder in that of the search."""
        return str(self.attributes.get("folder", self.number))


@dataclass(slots=True)
class FoundSweep:
    """A search as its folder holds it."""

    name: str = ""
    goal: str = "minimize"
    metric: str = "val/loss"
    trials: list[FoundTrial] = field(default_factory=list)

    def find_best(self) -> FoundTrial | None:
        """Returns the complete trial with the best value."""
        complete = [t for t in self.trials if t.state == "complete" and t.value is not None]
        if not complete:
            return None
        pick = max if self.goal == "maximize" else min
        return pick(complete, key=lambda trial: trial.value or 0.0)


def read_sweep(folder: Path) -> FoundSweep:
    """Reads the search in a folder: the study while it is there, else the table that a search writes at its end.

    Never raises on what is in the folder.
    """
    with contextlib.suppress(sqlite3.Error, OSError, ValueError, TypeError):
        return _read_study(folder / "study.db")
    return _read_table(folder / "trials.jsonl")


def _read_study(path: Path) -> FoundSweep:
    if path.is_symlink() or not path.is_file():
        raise OSError(path)
    # mode=ro never creates or changes the file; a writer waits no longer than the queries take
    address = f"file:{quote(str(path))}?mode=ro"
    with contextlib.closing(sqlite3.connect(address, uri=True, timeout=BUSY_MS / 1000)) as database:
        studies = database.execute("SELECT study_id, study_name FROM studies ORDER BY study_id").fetchall()
        if not studies:
            return FoundSweep()
        # a database may hold several studies: the newest is that of the search
        number, name = studies[-1]
        directions = database.execute("SELECT direction FROM study_directions WHERE study_id = ?", (number,)).fetchall()
        rows = database.execute(TRIALS, (number, MOST_TRIALS)).fetchall()
        parameters = database.execute(PARAMETERS, (number,)).fetchall()
        attributes = database.execute(ATTRIBUTES, (number,)).fetchall()
    trials = {
        row[0]: FoundTrial(int(row[1]), str(row[2]).lower(), _to_value(row[3]) if row[2] == "COMPLETE" else None)
        for row in rows
    }
    for trial, parameter, value, distribution in parameters:
        if trial in trials:
            trials[trial].params[str(parameter)] = _read_parameter(value, json.loads(distribution))
    for trial, key, value in attributes:
        if trial in trials:
            trials[trial].attributes[str(key)] = json.loads(value)
    goal = "maximize" if directions and directions[0][0] == "MAXIMIZE" else "minimize"
    found = [t for t in trials.values() if t.state != "waiting" and not t.attributes.get("again")]
    return FoundSweep(str(name), goal, trials=found)


def _read_parameter(value: float, distribution: Mapping[str, Any]) -> Any:
    """Returns a parameter as it was drawn: a choice is stored as its index, an integer as a float."""
    kind, details = distribution.get("name"), distribution.get("attributes", {})
    if kind == "CategoricalDistribution":
        return details["choices"][int(value)]
    return int(value) if kind == "IntDistribution" else float(value)


def _to_value(value: Any) -> float | None:
    number = to_number(value)
    return number if number == number and abs(number) != float("inf") else None


def _read_table(path: Path) -> FoundSweep:
    found = FoundSweep(path.parent.name)
    try:
        lines = [] if path.is_symlink() else path.read_text(encoding="utf-8").splitlines()[:MOST_TRIALS]
    except (OSError, ValueError):
        return found
    for line in lines:
        with contextlib.suppress(ValueError, TypeError, RecursionError):
            row = json.loads(line)
            if not isinstance(row, dict) or type(row.get("trial")) is not int:
                continue
            values, place = row.get("values"), row.get("folder")
            found.trials.append(FoundTrial(
                row["trial"], str(row.get("state", "unknown")), _to_value(row.get("value")),
                values if isinstance(values, dict) else {}, {"folder": place} if isinstance(place, str) else {},
            ))
    return found


class SweepShelf:
    """The searches of a board. Importance is computed beside it, once for each number of complete trials."""

    def __init__(self, roots: Roots) -> None:
        self._roots = roots
        self._lock = threading.Lock()
        self._read: dict[Path, tuple[Any, FoundSweep]] = {}
        self._importance: dict[Path, tuple[int, dict[str, float]]] = {}
        self._computing: dict[Path, tuple[int, subprocess.Popen[bytes]]] = {}

    def describe(self, folder: Path) -> dict[str, Any]:
        """Returns the answer for the page."""
        sweep = self._get(folder)
        root, inner = self._roots.find_root(folder)
        best = sweep.find_best()
        complete = sum(trial.state == "complete" for trial in sweep.trials)
        return {
            "id": make_run_id(folder), "folder": inner, "root": root, "name": sweep.name or folder.name,
            "goal": sweep.goal, "metric": sweep.metric, "trials": [self._describe(folder, t) for t in sweep.trials],
            "best": None if best is None else best.number,
            "importance": self._find_importance(folder, complete) if complete >= FEWEST else {},
        }

    def _describe(self, folder: Path, trial: FoundTrial) -> dict[str, Any]:
        place = folder / trial.folder
        # the folder's name comes from the database, which may name any place with `..` in it
        is_run = place.parent == folder and any((place / mark).is_file() for mark in MARKS)
        why = trial.attributes.get("why")
        return {
            "number": trial.number, "state": trial.state, "value": trial.value, "params": trial.params,
            "why": why if isinstance(why, str) else "", "run": make_run_id(place) if is_run else None,
        }

    def _get(self, folder: Path) -> FoundSweep:
        signature = sign_sweep(folder)
        with self._lock:
            known = self._read.get(folder)
        if known is not None and known[0] == signature:
            return known[1]
        sweep = read_sweep(folder)
        sweep.goal, sweep.metric = _read_goal(folder, sweep)
        with self._lock:
            self._read[folder] = (signature, sweep)
        return sweep

    def _find_importance(self, folder: Path, complete: int) -> dict[str, float]:
        """Returns the importance by the newest result; starts to compute it again if there are more trials now."""
        with self._lock:
            busy = self._computing.get(folder)
            if busy is not None and busy[1].poll() is not None:
                self._importance[folder] = (busy[0], _read_shares(busy[1]))
                del self._computing[folder]
            known = self._importance.get(folder, (0, {}))
            # one process at a time for all searches; a result for fewer trials is shown meanwhile
            if known[0] != complete and not self._computing and (folder / "study.db").is_file():
                self._computing[folder] = (complete, start_importance(folder / "study.db"))
            return known[1]

    def list_computing(self) -> list[str]:
        """Returns the searches whose importance is being computed."""
        with self._lock:
            return [str(folder) for folder, (_, child) in self._computing.items() if child.poll() is None]

    def close(self) -> None:
        """Ends what is being computed."""
        with self._lock:
            for _, child in self._computing.values():
                child.kill()
                child.wait()
            self._computing.clear()


def sign_sweep(folder: Path) -> tuple[tuple[int, int], ...]:
    """Returns the times and sizes of what a search writes."""
    found = []
    for name in ("study.db", "trials.jsonl"):
        try:
            seen = os.lstat(folder / name)
            found.append((seen.st_mtime_ns, seen.st_size))
        except OSError:
            found.append((0, 0))
    return tuple(found)


def _read_goal(folder: Path, sweep: FoundSweep) -> tuple[str, str]:
    """Returns the goal and the metric, which each trial's provenance.json holds."""
    for trial in sweep.trials:
        try:
            knobs = read_json(folder / trial.folder / "provenance.json")["knobs"]
            return str(knobs["sweep.goal"]["value"]), str(knobs["sweep.metric"]["value"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return sweep.goal, sweep.metric


def start_importance(path: Path) -> subprocess.Popen[bytes]:
    """Starts the process that computes importance: it loads Optuna, and ends by itself if that takes too long."""
    command = [sys.executable, "-m", "fulgurite.board.worker.importance", str(path), str(IMPORTANCE_SECONDS)]
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )


def _read_shares(child: subprocess.Popen[bytes]) -> dict[str, float]:
    out, _ = child.communicate()
    try:
        found = json.loads(out)
        return {str(name): float(share) for name, share in found.items()}
    except (ValueError, TypeError, AttributeError):
        return {}
