"""The server of the board as a process: its start, memory and answers, and what a page costs a run that trains.

A part of `python -m benchmarks.board`.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
PLAIN = ("logger=none", "stage.prompts=[]", "data.val_fraction=0", "trainer.save_every=100000")


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


def measure_slowdown(browser: Any, folder: Path, model: str, steps: int, pairs: int) -> list[Measurement]:
    """Returns the tokens a second of a run with and without its page in Chromium, one run after the other in turn."""
    speeds: dict[bool, list[float]] = {True: [], False: []}
    with serve(folder, "--lazy", logs_in=False) as board:
        context = browser.new_context()
        context.new_page().goto(board.address)
        for number in range(pairs):
            for watched in (True, False) if number % 2 else (False, True):
                run = folder / "runs" / f"speed-{number}-{'page' if watched else 'alone'}"
                page = context.new_page() if watched else None
                speeds[watched].append(train_run(folder, run, model, steps, page, board.origin))
                if page is not None:
                    page.close()
        context.close()
    alone, page_open = median(speeds[False]), median(speeds[True])
    return [
        Measurement(f"run of {model}: tokens a second without a page", f"{alone:.1f}"),
        Measurement(f"run of {model}: tokens a second with its page open", f"{page_open:.1f}"),
        Measurement("difference", f"{page_open / alone - 1:+.1%}"),
    ]


def train_run(folder: Path, run: Path, model: str, steps: int, page: Any, origin: str) -> float:
    """Trains a run in a process, with a page that shows it if one is given; returns its median tokens a second."""
    words = [f"model={model}", f"trainer.max_steps={steps}", f"trainer.eval_every={steps}", f"run_dir={run}", *PLAIN]
    command = [sys.executable, "-m", "fulgurite", "train", *words]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          env={**os.environ, "FULGURITE_LANG": "en"}) as process:
        while page is not None and process.poll() is None:
            if page.url == "about:blank" and (run / "metrics.jsonl").exists():
                page.goto(f"{origin}/#/run/{make_run_id(run)}")
            page.wait_for_timeout(100)
        printed = process.communicate()[0]
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} ended with {process.returncode}: {printed[-500:]}")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return median([row[SPEED] for row in rows if SPEED in row][FIRST_ROWS:])


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
