"""The server of the board as a process: its start, memory and answers, and what a page costs a run that trains.

A part of `python -m benchmarks.board`.
"""

from __future__ import annotations

import json
import math
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import psutil

from benchmarks.board_pictures import ADDRESS
from benchmarks.board_plans import Measurement
from fulgurite.board.roots import make_run_id

PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0"
SPEED = "train/tokens_per_second"
FIRST_ROWS = 3
"""Rows of a run that are left out: the first steps are slower."""
LONG = 10_000_000
PLAIN = (
    "logger=none", "stage.prompts=[]", "data.val_fraction=0", f"trainer.max_steps={LONG}",
    f"trainer.eval_every={LONG}", f"trainer.save_every={LONG}",
)
"""A run that does nothing but train, until it is killed."""
OPENING_SECONDS = 5.0
"""What a page takes to open is not part of what it costs while it is open."""


@dataclass
class ServedBoard:
    """A board that is up."""

    process: psutil.Process
    address: str
    started: float
    """Seconds from the command to the printed address."""
    client: httpx.Client

    @property
    def origin(self) -> str:
        """The address without the token."""
        return self.address.partition("/?")[0]

    def time_get(self, path: str) -> float:
        """Returns the seconds of an answer."""
        begin = time.perf_counter()
        self.client.get(path).raise_for_status()
        return time.perf_counter() - begin

    def measure_memory(self) -> str:
        """Returns the memory of the server, and of its child processes if there are any."""
        own = self.process.memory_info().rss
        children = sum(child.memory_info().rss for child in self.process.children(recursive=True))
        return f"{own / 1e6:.0f} MB" + (f" + {children / 1e6:.0f} MB" if children else "")


@contextmanager
def serve(folder: Path, *words: str, logs_in: bool = True) -> Iterator[ServedBoard]:
    """Runs `fulgurite board` for a folder. Without `logs_in` the printed address stays for a browser."""
    command = [sys.executable, "-u", "-m", "fulgurite", "board", ".", "--no-browser", *words]
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder) as process:
        try:
            assert process.stdout is not None
            found = next(match for line in process.stdout if (match := ADDRESS.search(line)))
            address, started = found[0], time.perf_counter() - begin
            origin = address.partition("/?")[0]
            with httpx.Client(base_url=origin, headers={"origin": origin}, timeout=600) as client:
                if logs_in:
                    client.get(address)
                yield ServedBoard(psutil.Process(process.pid), address, started, client)
        finally:
            process.terminate()


def measure_start(browser: Any, folder: Path, repeats: int) -> list[Measurement]:
    """Returns the time from the command to the first paint in Chromium, in its two parts and as a whole."""
    parts = []
    for _ in range(repeats):
        with serve(folder, logs_in=False) as board:
            page = browser.new_context().new_page()
            page.goto(board.address)
            page.locator("#main h1").wait_for()
            parts.append((board.started, page.evaluate(PAINT) / 1000))
            page.context.close()
    rows = [("command to printed address", median(a for a, _ in parts)), ("address to first paint",
            median(b for _, b in parts)), ("command to first paint", median(a + b for a, b in parts))]
    return [Measurement(f"start: {name}", f"{seconds:.2f} s") for name, seconds in rows]


def write_runs(folder: Path, count: int, rows: int) -> None:
    """Writes finished runs of 60 steps, and one of `rows` steps."""
    for number in range(count):
        run = folder / "runs" / f"{number:04d}"
        run.mkdir(parents=True)
        status = {"state": "finished", "host": socket.gethostname(), "pid": 1, "started": 1e9 + number,
                  "ended": 1e9 + number + 60, "total_steps": 60, "name": run.name}
        values = {"optim.lr": 1e-4 * (number + 1), "method.rank": 8}
        provenance = {"choices": {"stage": "sft", "method": "lora"}, "overrides": [],
                      "knobs": {name: {"value": value, "origin": "given"} for name, value in values.items()}}
        (run / "status.json").write_text(json.dumps(status))
        (run / "provenance.json").write_text(json.dumps(provenance))
        steps = range(1, (rows if number == 0 else 60) + 1)
        (run / "metrics.jsonl").write_text("".join(json.dumps({
            "step": step, "epoch": 0, "tokens": 400 * step, "train/loss": 1.5 + math.exp(-step / 40),
            "train/lr": 1e-4, "train/grad_norm": 1.0, "train/clipped": float(step % 5 == 0), SPEED: 1500.0,
        }) + "\n" for step in steps))


def measure_answers(folder: Path, count: int, rows: int, model: str) -> list[Measurement]:
    """Returns the memory of the server as it is used, and the time of its longest answers, first and again."""
    found = []
    with serve(folder, "--lazy") as board:
        found.append(Measurement("memory: server without a planner", board.measure_memory()))
        for path, name in (("/api/runs", f"list of {count} runs"),
                           (f"/api/runs/{make_run_id(folder / 'runs' / '0000')}/metrics", f"curves of {rows:,} rows")):
            cold, warm = board.time_get(path), median(board.time_get(path) for _ in range(5))
            found.append(Measurement(f"{name}: cold, warm", f"{cold:.2f} s, {warm:.2f} s"))
        found.append(Measurement(f"memory: server after {count} runs and {rows:,} rows", board.measure_memory()))
        draft = {"choices": {"model": model}, "values": {}, "adds": {}}
        while board.client.post("/api/plan", json={"draft": draft}).raise_for_status().status_code == 202:
            time.sleep(1)
        found.append(Measurement(f"memory: the same, and the planner with {model}", board.measure_memory()))
    return found


@dataclass(frozen=True)
class WatchedSpan:
    """Some seconds of a run that trains: its speed, and what the board beside it used of the processor."""

    tokens_per_second: float
    server: float
    """Processor seconds a minute, of the server and its child processes."""
    browser: float
    """Processor seconds a minute, of all processes of Chromium."""


def measure_slowdown(
    browser: Any, folder: Path, model: str, seconds: float, pairs: int
) -> Iterator[Measurement]:
    """Yields what an open page costs a run: pairs of a run with its page and one without, in turn the one and the other
    first, so that a machine that slows down does not favour one of them."""
    found: dict[bool, list[WatchedSpan]] = {True: [], False: []}
    with serve(folder, "--lazy", logs_in=False) as board:
        context = browser.new_context()
        context.new_page().goto(board.address)
        for number in range(pairs):
            for watched in (True, False) if number % 2 else (False, True):
                run = folder / "runs" / f"speed-{model}-{number}-{'page' if watched else 'alone'}"
                page = context.new_page() if watched else None
                found[watched].append(watch_run(folder, run, model, seconds, page, board))
                if page is not None:
                    page.close()
        context.close()
    alone, beside = ([span.tokens_per_second for span in found[watched]] for watched in (False, True))
    ratios = sorted(b / a - 1 for a, b in zip(alone, beside, strict=True))
    yield Measurement(f"run of {model}: tokens a second without a page", f"{median(alone):.1f}")
    yield Measurement(f"run of {model}: tokens a second with its page open", f"{median(beside):.1f}")
    pairs_text = f"{median(ratios):+.1%} ({ratios[0]:+.1%} to {ratios[-1]:+.1%})"
    yield Measurement(f"run of {model}: difference, median of {pairs} pairs and their range", pairs_text)
    yield Measurement("a minute of an open page: server", "", median(span.server for span in found[True]))
    yield Measurement("a minute of an open page: browser", "", median(span.browser for span in found[True]))


def watch_run(
    folder: Path, run: Path, model: str, seconds: float, page: Any, board: ServedBoard
) -> WatchedSpan:
    """Trains a run in a process, with a page that shows it if one is given, and looks at it for some seconds."""
    words = [f"model={model}", f"run_dir={run}", *PLAIN]
    with (folder / "train.log").open("w+", encoding="utf-8") as log:
        process = subprocess.Popen([sys.executable, "-m", "fulgurite", "train", *words], cwd=folder, stdout=log,
                                   stderr=log)
        try:
            while len(read_rows(run)) <= FIRST_ROWS:
                if process.poll() is not None:
                    raise SystemExit(f"{' '.join(words)} ended: {(folder / 'train.log').read_text()[-500:]}")
                time.sleep(0.2)
            if page is not None:
                page.goto(f"{board.origin}/#/run/{make_run_id(run)}")
                page.locator(".chart-reader").first.wait_for()
            time.sleep(OPENING_SECONDS)
            # playwright is not asked for anything meanwhile: its own process would be part of what is measured
            rows, used, begin = len(read_rows(run)), sum_processor(board), time.perf_counter()
            time.sleep(seconds)
            minutes = (time.perf_counter() - begin) / 60
            server, chromium = ((b - a) / minutes for a, b in zip(used, sum_processor(board), strict=True))
            return WatchedSpan(compute_speed(read_rows(run)[rows:]), server, chromium)
        finally:
            process.kill()
            process.wait()


def read_rows(run: Path) -> list[dict[str, Any]]:
    """Returns the whole rows of a run that have a speed."""
    path = run / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    return [row for row in map(json.loads, lines) if SPEED in row]


def compute_speed(rows: list[dict[str, Any]]) -> float:
    """Returns the tokens a second of all rows together: a page costs in bursts, which the median of rows would hide."""
    tokens = [later["tokens"] - row["tokens"] for row, later in pairwise(rows)]
    return sum(tokens) / sum(count / row[SPEED] for count, row in zip(tokens, rows[1:], strict=True))


def sum_processor(board: ServedBoard) -> tuple[float, float]:
    """Returns the processor seconds that the server and Chromium have used so far."""
    server = [board.process, *board.process.children(recursive=True)]
    chromium = [child for child in psutil.Process().children(recursive=True) if child.name().startswith("chrom")]
    return _add_times(server), _add_times(chromium)


def _add_times(processes: list[psutil.Process]) -> float:
    times = [process.cpu_times() for process in processes]
    return sum(found.user + found.system for found in times)


@contextmanager
def open_browser() -> Iterator[Any]:
    """Opens the system's Chromium without a window; yields None if there is none."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium")
    if path is None:
        yield None
        return
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()
