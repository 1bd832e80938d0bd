"""How long a run will take: by the speed of earlier runs like it on this machine, else by its arithmetic."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from fulgurite.files.json import read_json
from fulgurite.language.message import UserMessage, message
from fulgurite.logger.metrics_file import read_rows
from fulgurite.plan.context import PlanFacts
from fulgurite.plan.operations import guess_timing, has_experts
from fulgurite.plan.timing import Timing
from fulgurite.run.listing import list_run_folders

SPEED = "train/tokens_per_second"
ALIKE = ("stage", "method", "model", "optim", "precision")
"""Groups whose options must be the same; other parameters change the speed less."""
SAME = ("model.path", "trainer.devices", "trainer.gradient_checkpointing")
"""Parameters that must be the same."""
NEWEST, WARM_UP, MOST_RUNS = 5, 2, 500
"""How many runs are averaged, how many first rows of each are left out, and how many runs are looked at."""
FRESH = 60.0
"""Seconds for which the list of runs is used again."""


class SpeedBook:
    """The speeds of the runs under some folders, read once a run."""

    def __init__(self, roots: Iterable[Path]) -> None:
        self.roots = list(roots)
        self._known: dict[Path, tuple[int, dict[str, Any]]] = {}
        self._newest: tuple[float, list[Path]] = (-FRESH, [])

    def find(self, choices: Mapping[str, str], values: Mapping[str, Any]) -> float | None:
        """Returns the median tokens a second of the newest runs of the same stage, method and model; None without
        one. `values` are those of the run's parameters, by name."""
        wanted = json.dumps([*map(choices.get, ALIKE), *map(values.get, SAME)], default=str)
        found = []
        for folder in self._list_newest():
            entry = self._read(folder)
            if entry.get("like") == wanted and entry.get("speed"):
                found.append(float(entry["speed"]))
            if len(found) == NEWEST:
                break
        return median(found) if found else None

    def _list_newest(self) -> list[Path]:
        # a folder with thousands of others takes longer to search than a plan may take
        if time.monotonic() - self._newest[0] > FRESH:
            folders = [folder for root in self.roots if root.is_dir() for folder in list_run_folders(root)]
            self._newest = (time.monotonic(), sorted(folders, key=_get_time, reverse=True)[:MOST_RUNS])
        return self._newest[1]

    def _read(self, folder: Path) -> dict[str, Any]:
        changed = _get_time(folder)
        known = self._known.get(folder)
        if known is None or known[0] != changed:
            known = self._known[folder] = (changed, _read_run(folder))
        return known[1]


def _get_time(folder: Path) -> int:
    try:
        return (folder / "metrics.jsonl").stat().st_mtime_ns
    except OSError:
        return 0


def _read_run(folder: Path) -> dict[str, Any]:
    """Returns what a run is like and its speed; nothing if it ran on another machine or cannot be read."""
    try:
        status, origin = read_json(folder / "status.json"), read_json(folder / "provenance.json")
        if status.get("host") != socket.gethostname():
            return {}
        knobs = {name: entry.get("value") for name, entry in origin["knobs"].items()}
        rows, _ = read_rows(folder / "metrics.jsonl")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    speeds = [row[SPEED] for row in rows if isinstance(row.get(SPEED), int | float)][WARM_UP:]
    choices = origin.get("choices") or {}
    like = json.dumps([*(choices.get(group) for group in ALIKE), *(knobs.get(name) for name in SAME)], default=str)
    return {"like": like, "speed": median(speeds) if speeds else None}


@dataclass(frozen=True, slots=True)
class TimeEstimate:
    """The seconds of training and evaluation, None if not known, and what they were taken from."""

    seconds: float | None = None
    source: str = ""
    """`runs` or `arithmetic`; why they are not known: `rollouts`, `device` or `experts`; empty without data."""


def describe_duration(seconds: float) -> UserMessage:
    """Returns a time that is known to some tenths, rounded as a person would."""
    if seconds < 55:
        return message("{count} seconds", count=max(5, 5 * round(seconds / 5)))
    if (minutes := round(seconds / 60)) < 2:
        return message("1 minute")
    if minutes < 100:
        return message("{count} minutes", count=minutes)
    hours = seconds / 3600
    return message("{count:.2g} hours", count=hours) if hours < 48 else message("{count:.2g} days", count=hours / 24)


def estimate_time(seen: PlanFacts, speed: float | None, find_rate: Callable[[], float]) -> TimeEstimate:
    """Returns the time at `speed` tokens a second of earlier runs, else at the rate of this machine's products.

    `find_rate` measures that rate. A GPU is not asked: it would have to be taken from the runs that use it.
    """
    if seen.data is None:
        return TimeEstimate()
    if seen.run.stage.rolls_out:  # generating takes most of the time, and the data do not decide how long answers are
        return TimeEstimate(None, "rollouts")
    if speed:
        return TimeEstimate(sum(Timing(1 / speed, 0.0, 0).estimate_seconds(seen).values()), "runs")
    if seen.machine.device != "cpu":
        return TimeEstimate(None, "device")
    timing = guess_timing(seen, find_rate())
    if timing is None:
        return TimeEstimate(None, "experts" if has_experts(seen.model) else "")
    return TimeEstimate(sum(timing.estimate_seconds(seen).values()), "arithmetic")
