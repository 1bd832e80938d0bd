"""`fulgurite runs`: what has been run, how it ended, and in which knobs the runs differ. Loads no torch."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fulgurite.config.renamed import rename_keys
from fulgurite.errors import ConfigError
from fulgurite.files.json import read_json
from fulgurite.logger.metrics_file import LARGEST_STEP, read_rows
from fulgurite.run.status import is_running
from fulgurite.text.console import to_one_line

MARKS = ("status.json", "metrics.jsonl", "provenance.json")
"""A folder with one of these is a run, or what is left of one."""

DEPTH = 4
"""How deep runs lie: runs/<date>/<time>_<name>, and one more in a multirun."""

OWN = ("name", "run_dir", "resume", "plan", "monitor", "sweep", "callback", "logger", "plugins")
"""Knobs and groups that say where a run lies and who watches it, not what it does."""


@dataclass(slots=True)
class RunSummary:
    """One run folder. `state` is running, finished, diverged, stopped, failed, died (its process is gone) or unknown.

    `loss` is the mean of the last tenth of the training losses; `given` names the choices and the knobs that a person
    or a preset set; `troubles` tells what in the folder could not be read.
    """

    folder: str
    name: str = ""
    state: str = "unknown"
    why: str = ""
    started: float | None = None
    seconds: float | None = None
    steps: int = 0
    total_steps: int | None = None
    loss: float | None = None
    val_loss: float | None = None
    best_val_loss: float | None = None
    knobs: dict[str, Any] = field(default_factory=dict)
    given: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)


def list_runs(root: Path | str = "runs") -> list[RunSummary]:
    """The runs under `root`, oldest first, a damaged one with its troubles. Raises ConfigError where `root` is none."""
    root = Path(root)
    if not root.is_dir():
        raise ConfigError(f"{root} is not a folder; give the folder that holds the runs: fulgurite runs FOLDER.")
    found = [summarize_run(folder) for folder in _list_folders(root, 0)]
    return sorted(found, key=lambda run: (run.started or 0.0, run.folder))


def summarize_run(folder: Path) -> RunSummary:
    """What a run folder tells. Never raises on its content."""
    run = RunSummary(str(folder), folder.name)
    _read_status(run, folder, _read_json(run, folder / "status.json"))
    origins = _read_json(run, folder / "provenance.json")
    _read_knobs(run, origins)
    run.name = str(run.knobs.get("name") or folder.name)
    _read_metrics(run, folder / "metrics.jsonl")
    return run


def find_differences(runs: Sequence[RunSummary]) -> dict[str, list[Any]]:
    """The choices and knobs that are not the same in all runs that have any, with each run's value (None: not there).

    Only what somebody set in one of them: what is derived or missing follows from that.
    """
    known = [run for run in runs if run.knobs]
    names = dict.fromkeys(name for run in known for name in run.given if name.partition(".")[0] not in OWN)
    values = {name: [run.knobs.get(name) for run in runs] for name in names}
    differ = {n for n in names if len({json.dumps(run.knobs.get(n), sort_keys=True, default=str) for run in known}) > 1}
    return {name: column for name, column in values.items() if name in differ}


def format_runs(runs: Sequence[RunSummary], width: int | None = None) -> str:
    """The runs as text for a terminal: one row a run, then what is wrong with some of them."""
    if not runs:
        return "No runs in this folder."
    root = os.path.commonpath([str(Path(run.folder).parent) for run in runs])
    wide = find_differences(runs)
    heads = ["run", "state", "steps", "loss", "val", "best", "time", *wide]
    lines = [
        [
            os.path.relpath(run.folder, root),
            run.state,
            _format_steps(run),
            _format_number(run.loss),
            _format_number(run.val_loss),
            _format_number(run.best_val_loss),
            _format_duration(run.seconds),
            *(_format_value(column[i]) for column in wide.values()),
        ]
        for i, run in enumerate(runs)
    ]
    text = _render(heads, lines, width)
    notes = [to_one_line(f"{os.path.relpath(r.folder, root)}: {n}") for r in runs for n in (r.why, *r.troubles) if n]
    return text + ("\n" + "\n".join(notes) if notes else "")


def _list_folders(folder: Path, depth: int) -> list[Path]:
    if any((folder / mark).exists() for mark in MARKS):
        return [folder]
    if depth == DEPTH:
        return []
    try:
        inner = sorted(p for p in folder.iterdir() if p.is_dir() and not p.is_symlink() and not p.name.startswith("."))
    except OSError:
        return []
    return [run for p in inner for run in _list_folders(p, depth + 1)]


def _read_json(run: RunSummary, path: Path) -> dict[str, Any]:
    """The mapping in a file; a missing, damaged or foreign file is a trouble of the run."""
    try:
        found = read_json(path)
    except FileNotFoundError:
        run.troubles.append(f"{path.name} is missing")
        return {}
    except OSError as error:
        run.troubles.append(f"{path.name} cannot be read ({error.strerror or type(error).__name__})")
        return {}
    except ValueError as error:
        run.troubles.append(f"{path.name} cannot be read ({error})")
        return {}
    if not isinstance(found, dict):
        run.troubles.append(f"{path.name} holds no mapping")
        return {}
    return found


def _read_knobs(run: RunSummary, origins: dict[str, Any]) -> None:
    choices = _get_mapping(origins, "choices")
    knobs = rename_keys(_get_mapping(origins, "knobs"), choices)
    chosen = {k: v for k, v in choices.items() if "/" not in k}
    told = {k: v for k, v in knobs.items() if isinstance(v, dict) and "value" in v}
    run.knobs = {k: _to_plain(v) for k, v in (chosen | {k: v["value"] for k, v in told.items()}).items()}
    run.given = [*chosen, *(k for k, v in told.items() if v.get("origin") not in ("default", "derived"))]


def _to_finite(value: Any) -> float | None:
    """A number of a file that anything may have written; None for all else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def _to_plain(value: Any) -> Any:
    """A value that JSON can hold: NaN and infinity become text."""
    if isinstance(value, dict):
        return {key: _to_plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_to_plain(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _get_mapping(found: dict[str, Any], key: str) -> dict[str, Any]:
    inner = found.get(key)
    return inner if isinstance(inner, dict) else {}


def _read_status(run: RunSummary, folder: Path, found: dict[str, Any]) -> None:
    state = found.get("state")
    known = state in ("running", "finished", "diverged", "stopped", "failed")
    run.state = "died" if state == "running" and not is_running(folder, found) else str(state) if known else "unknown"
    run.why = str(found.get("why") or "")
    started, ended, total = found.get("started"), found.get("ended"), found.get("total_steps")
    run.total_steps = total if type(total) is int and 0 <= total < LARGEST_STEP else None
    if (begin := _to_finite(started)) is not None:
        run.started = begin
        end = time.time() if _to_finite(ended) is None and run.state == "running" else _to_finite(ended)
        run.seconds = None if end is None else _to_finite(end - begin)


def _read_metrics(run: RunSummary, path: Path) -> None:
    try:
        rows, bad = read_rows(path)
    except OSError as error:
        run.troubles.append(f"{path.name} {'is missing' if isinstance(error, FileNotFoundError) else 'cannot be read'}")
        return
    if bad:
        run.troubles.append(f"{path.name} has {bad} unreadable line{'s' if bad > 1 else ''}")
    losses = [x for row in rows if (x := _to_finite(row.get("train/loss"))) is not None]
    val = [x for row in rows if (x := _to_finite(row.get("val/loss"))) is not None]
    run.steps = max((row["step"] for row in rows), default=0)
    if losses:
        tail = losses[-max(1, len(losses) // 10):]
        run.loss = sum(tail) / len(tail)
    if val:
        run.val_loss, run.best_val_loss = val[-1], min(val)
    if run.seconds is None and run.started is not None and path.exists():
        run.seconds = max(path.stat().st_mtime - run.started, 0.0)


def _render(heads: list[str], lines: list[list[str]], width: int | None) -> str:
    from io import StringIO

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    right = {"steps", "loss", "val", "best", "time"}
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for head in heads:
        grid.add_column(Text(head), justify="right" if head in right else "left", overflow="fold")
    for line in lines:
        grid.add_row(*(Text(to_one_line(cell)) for cell in line))
    # In a pipe the table is as wide as it needs to be: a line there is read by a program.
    wide = width or (None if sys.stdout.isatty() else 10_000)
    out = StringIO()
    Console(file=out, width=wide, color_system=None).print(grid)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def _format_steps(run: RunSummary) -> str:
    return f"{run.steps}/{run.total_steps}" if run.total_steps else str(run.steps)


def _format_number(x: float | None) -> str:
    return "-" if x is None else f"{x:.4f}"


def _format_value(x: Any) -> str:
    if isinstance(x, float):
        return f"{x:g}"
    return "-" if x is None else x if isinstance(x, str) else json.dumps(x, default=str)


def _format_duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    hours, minutes, rest = round(seconds) // 3600, round(seconds) // 60 % 60, round(seconds) % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
