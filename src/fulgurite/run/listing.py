"""Lists run folders for `fulgurite runs`: their state, their losses, and the parameters that differ. Loads no torch."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fulgurite.config.renamed import rename_keys
from fulgurite.errors import ConfigError
from fulgurite.files.json import read_json
from fulgurite.language.library_errors import translate_error, translate_system_error
from fulgurite.language.message import UserMessage, message
from fulgurite.language.stored import translate_stored
from fulgurite.logger.metrics_file import LARGEST_STEP, read_rows
from fulgurite.run.status import is_running
from fulgurite.text.console import to_one_line, wrap_lines
from fulgurite.text.layout import count_cells, format_blocks

MARKS = ("status.json", "metrics.jsonl", "provenance.json")
"""A folder with one of these files is a run, or the rest of one."""

DEPTH = 4
"""The depth to which runs are searched: runs/<date>/<time>_<name>, and one more in a multirun."""

OWN = ("name", "run_dir", "resume", "plan", "monitor", "sweep", "callback", "logger", "plugins")
"""Parameters and groups about the place of a run and its observers, which do not change its results."""

STATES = {
    "running": message("running"), "finished": message("finished"), "diverged": message("diverged"),
    "stopped": message("stopped"), "failed": message("failed"), "died": message("died"), "unknown": message("unknown"),
}
"""The states of a run, for people."""

HEADS = (
    message("run"), message("state"), message("steps"), message("loss"), message("val"), message("best"),
    message("time"),
)
"""The heads of the table."""

EVALUATED = message("evaluated")
"""The head of the column with the newest evaluation, if one of the runs was evaluated."""

EVALUATIONS = "eval.json"


@dataclass(slots=True)
class RunSummary:
    """One run folder. `state` is one of STATES; died means that its process is gone.

    `loss` is the mean of the last tenth of the training losses; `evaluated` has the first number of the newest
    evaluation in eval.json, by its name; `choices` are the options in use, by group; `given`
    names the choices and the parameters that a person or a preset set; `troubles` lists the files of the folder that
    could not be read.
    """

    folder: str
    name: str = ""
    state: str = "unknown"
    why: str = ""
    because: Any = None
    """`why` as data, from which it is made in another language; None in runs of earlier versions."""
    started: float | None = None
    seconds: float | None = None
    steps: int = 0
    total_steps: int | None = None
    loss: float | None = None
    val_loss: float | None = None
    best_val_loss: float | None = None
    evaluated: dict[str, float] = field(default_factory=dict)
    choices: dict[str, str] = field(default_factory=dict)
    knobs: dict[str, Any] = field(default_factory=dict)
    given: list[str] = field(default_factory=list)
    troubles: list[UserMessage] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Returns plain values for programs; sentences are in English."""
        plain = dataclasses.asdict(dataclasses.replace(self, troubles=[]))
        del plain["because"]
        return plain | {"troubles": [trouble.english for trouble in self.troubles]}


@dataclass(slots=True)
class LoggedNumbers:
    """What a summary needs of metrics.jsonl: the newest step, the finite losses, and the number of unreadable lines."""

    steps: int = 0
    losses: Sequence[float] = ()
    val_losses: Sequence[float] = ()
    bad: int = 0


def list_runs(*roots: Path | str) -> list[RunSummary]:
    """Returns the runs under the folders, oldest first, a damaged one with its troubles. Raises ConfigError if one is
    not a folder."""
    found: dict[Path, RunSummary] = {}
    for root in map(Path, roots):
        if not root.is_dir():
            raise ConfigError("{path} is not a folder; give a folder with runs: fulgurite runs dir=FOLDER.", path=root)
        for folder in list_run_folders(root):
            # Two roots may contain the same folder, or a link to it.
            found.setdefault(folder.resolve(), summarize_run(folder))
    return sorted(found.values(), key=lambda run: (run.started or 0.0, run.folder))


def summarize_run(
    folder: Path, read_numbers: Callable[[Path], LoggedNumbers] | None = None,
    read: Callable[[Path], Any] = read_json,
) -> RunSummary:
    """Reads a run folder. Never raises on its content.

    `read_numbers` reads metrics.jsonl in place of `read_logged_numbers`, and `read` the JSON files in place of
    `read_json`: for a reader that remembers what it has read before.
    """
    run = RunSummary(str(folder), folder.name)
    _read_status(run, folder, _read_json(run, folder / "status.json", read))
    origins = _read_json(run, folder / "provenance.json", read)
    _read_knobs(run, origins)
    run.name = _choose_name(folder, run.knobs.get("name"))
    _read_metrics(run, folder / "metrics.jsonl", read_numbers or read_logged_numbers)
    if (folder / EVALUATIONS).exists():
        _read_evaluation(run, _read_json(run, folder / EVALUATIONS, read))
    return run


def is_trial(folder: Path) -> bool:
    """Returns whether a folder is one of a multirun or of a search, which number their runs."""
    return folder.name.isdecimal()


def _choose_name(folder: Path, given: object) -> str:
    """Returns the given name, else the folder's; a run of a multirun adds its number to the name of the whole."""
    if is_trial(folder):
        return f"{given or folder.resolve().parent.name}/{folder.name}"
    return str(given or folder.name)


def find_differences(runs: Sequence[RunSummary]) -> dict[str, list[Any]]:
    """Returns the choices and parameters that differ between the runs, with the value of each run (None if absent).

    Considers only those that somebody set in one of the runs: derived values follow from them.
    """
    known = [run for run in runs if run.knobs]
    names = dict.fromkeys(name for run in known for name in run.given if name.partition(".")[0] not in OWN)
    values = {name: [run.knobs.get(name) for run in runs] for name in names}
    differ = {n for n in names if len({json.dumps(run.knobs.get(n), sort_keys=True, default=str) for run in known}) > 1}
    return {name: column for name, column in values.items() if name in differ}


def format_runs(runs: Sequence[RunSummary], width: int | None = None) -> str:
    """Returns the runs as a table for a terminal, one row per run, followed by the problems of some of them."""
    if not runs:
        return str(message("No runs in this folder."))
    root = _find_common_folder(runs)
    wide = find_differences(runs)
    evaluated = any(run.evaluated for run in runs)
    heads = [*map(str, HEADS), *([str(EVALUATED)] if evaluated else []), *wide]
    lines = [
        [
            os.path.relpath(run.folder, root),
            str(STATES[run.state]),
            _format_steps(run),
            _format_number(run.loss),
            _format_number(run.val_loss),
            _format_number(run.best_val_loss),
            _format_duration(run.seconds),
            *([_format_evaluation(run)] if evaluated else []),
            *(_format_value(column[i]) for column in wide.values()),
        ]
        for i, run in enumerate(runs)
    ]
    text = _render(heads, lines, width)
    notes = []
    for run in runs:
        reasons = [note for note in (translate_stored(run.because, run.why), *run.troubles) if note]
        notes += [to_one_line(f"{os.path.relpath(run.folder, root)}: {reason}") for reason in reasons]
    columns = width or (shutil.get_terminal_size().columns if sys.stdout.isatty() else None)
    return "\n".join([text, *(wrap_lines(note, columns) for note in notes)])


def _find_common_folder(runs: Sequence[RunSummary]) -> str:
    """Returns the folder to which the names of the table are relative; a run of a multirun keeps the name of the
    whole."""
    folders = [Path(os.path.abspath(run.folder)) for run in runs]
    return os.path.commonpath([str(f.parent.parent if is_trial(f) else f.parent) for f in folders])


def list_run_folders(folder: Path, depth: int = 0) -> list[Path]:
    """Returns the folders of runs in a folder, to the DEPTH at which runs are."""
    if any((folder / mark).exists() for mark in MARKS):
        return [folder]
    if depth == DEPTH:
        return []
    try:
        inner = sorted(p for p in folder.iterdir() if p.is_dir() and not p.is_symlink() and not p.name.startswith("."))
    except OSError:
        return []
    return [run for p in inner for run in list_run_folders(p, depth + 1)]


def _read_json(run: RunSummary, path: Path, read: Callable[[Path], Any]) -> dict[str, Any]:
    """Returns the mapping in a file; a missing, damaged or foreign file becomes a trouble of the run."""
    try:
        found = read(path)
    except FileNotFoundError:
        run.troubles.append(message("{file} is missing", file=path.name))
        return {}
    except (OSError, ValueError) as error:
        reason = translate_error(error) if isinstance(error, ValueError) else translate_system_error(error)
        run.troubles.append(message("{file} cannot be read ({reason})", file=path.name, reason=reason))
        return {}
    if not isinstance(found, dict):
        run.troubles.append(message("{file} does not contain a mapping", file=path.name))
        return {}
    return found


def _read_knobs(run: RunSummary, origins: dict[str, Any]) -> None:
    choices = _get_mapping(origins, "choices")
    knobs = rename_keys(_get_mapping(origins, "knobs"), choices)
    chosen = {k: v for k, v in choices.items() if "/" not in k}
    whole = {k: v for k, v in knobs.items() if isinstance(v, dict) and "value" in v}
    run.knobs = {k: _to_plain(v) for k, v in (chosen | {k: v["value"] for k, v in whole.items()}).items()}
    run.choices = {group: str(option) for group, option in chosen.items()}
    run.given = [*chosen, *(k for k, v in whole.items() if v.get("origin") not in ("default", "derived"))]


def _to_finite(value: Any) -> float | None:
    """Returns a finite number of a file that any program may have written; None for other values."""
    # True is an int to Python, and JSON has integers that no float can hold.
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def _to_plain(value: Any) -> Any:
    """Returns a value that JSON can represent: NaN and infinity become text."""
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
    # A killed process could not write how it ended: its status is still `running`, and its lock is free.
    known = state in ("running", "finished", "diverged", "stopped", "failed")
    run.state = "died" if state == "running" and not is_running(folder, found) else str(state) if known else "unknown"
    run.why, run.because = str(found.get("why") or ""), found.get("because")
    started, ended, total = found.get("started"), found.get("ended"), found.get("total_steps")
    run.total_steps = total if type(total) is int and 0 <= total < LARGEST_STEP else None
    if (begin := _to_finite(started)) is not None:
        run.started = begin
        end = time.time() if _to_finite(ended) is None and run.state == "running" else _to_finite(ended)
        run.seconds = None if end is None else _to_finite(end - begin)


def _read_evaluation(run: RunSummary, found: dict[str, Any]) -> None:
    rows = found.get("evaluations")
    newest = rows[-1] if isinstance(rows, list) and rows else None
    numbers = _get_mapping(newest, "numbers") if isinstance(newest, dict) else {}
    for name, value in numbers.items():
        if (number := _to_finite(value)) is not None:
            run.evaluated = {name: number}
            return


def _read_metrics(run: RunSummary, path: Path, read_numbers: Callable[[Path], LoggedNumbers]) -> None:
    try:
        found = read_numbers(path)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            run.troubles.append(message("{file} is missing", file=path.name))
        else:
            run.troubles.append(message("{file} cannot be read", file=path.name))
        return
    if found.bad:
        run.troubles.append(message("{file}: unreadable lines: {count}", file=path.name, count=found.bad))
    run.steps = found.steps
    if found.losses:
        tail = found.losses[-max(1, len(found.losses) // 10):]
        run.loss = sum(tail) / len(tail)
    if found.val_losses:
        run.val_loss, run.best_val_loss = found.val_losses[-1], min(found.val_losses)
    if run.seconds is None and run.started is not None and path.exists():
        run.seconds = max(path.stat().st_mtime - run.started, 0.0)


def read_logged_numbers(path: Path) -> LoggedNumbers:
    """Reads the numbers of metrics.jsonl. Raises OSError."""
    rows, bad = read_rows(path)
    return LoggedNumbers(
        max((row["step"] for row in rows), default=0),
        [x for row in rows if (x := _to_finite(row.get("train/loss"))) is not None],
        [x for row in rows if (x := _to_finite(row.get("val/loss"))) is not None],
        bad,
    )


def _render(heads: list[str], lines: list[list[str]], width: int | None) -> str:
    # in a pipe a program reads the lines, and the table is as wide as it needs to be
    wide = width or (shutil.get_terminal_size().columns if sys.stdout.isatty() else 10_000)
    lines = [[to_one_line(cell) for cell in line] for line in lines]
    needed = sum(max(count_cells(row[n]) for row in (heads, *lines)) + 1 for n in range(len(heads))) - 1
    if needed > wide:
        return format_blocks(heads, lines, wide)
    from io import StringIO

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False, header_style="bold")
    for n, head in enumerate(heads):
        is_number = 2 <= n < len(HEADS)  # steps, losses and time
        grid.add_column(Text(head), justify="right" if is_number else "left", overflow="fold")
    for line in lines:
        grid.add_row(*map(Text, line))
    out = StringIO()
    Console(file=out, width=wide, color_system=None).print(grid)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def _format_steps(run: RunSummary) -> str:
    return f"{run.steps}/{run.total_steps}" if run.total_steps else str(run.steps)


def _format_number(x: float | None) -> str:
    return "-" if x is None else f"{x:.4f}"


def _format_evaluation(run: RunSummary) -> str:
    return next((f"{name} {_format_number(value)}" for name, value in run.evaluated.items()), "-")


def _format_value(x: Any) -> str:
    if isinstance(x, float):
        return f"{x:g}"
    return "-" if x is None else x if isinstance(x, str) else json.dumps(x, default=str)


def _format_duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    hours, minutes, rest = round(seconds) // 3600, round(seconds) // 60 % 60, round(seconds) % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
