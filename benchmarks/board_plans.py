"""The latency of a plan and the memory of the worker that makes it: a part of `python -m benchmarks.board`.

A plan is asked from the worker process by JSON lines, as the server does it. `cold` is the first plan of a new worker,
with the data tokenised and the model's outline computed before; `warm` are plans in which one value changed since the
plan before. Seconds of the clock, and of the processor, which a busy machine changes less.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil


@dataclass(frozen=True)
class Measurement:
    """A row of the table: a name, a value with its unit, and processor seconds if they were measured."""

    name: str
    value: str
    processor: float | None = None

    def __str__(self) -> str:
        return f"| {self.name} | {self.value} | {'' if self.processor is None else f'{self.processor:.2f}'} |"


CHANGES: dict[str, list[str]] = {
    "optim.lr": ["1e-4", "2e-4", "3e-4", "5e-4", "8e-4"], "method.rank": ["8", "24", "48", "96", "128"],
    "data.max_length": ["96", "128", "160", "176", "190"], "trainer.global_batch_size": ["4", "8", "12", "24", "32"],
    "data.mask": ["all", "last", "answers", "all", "last"],
}
"""What is typed, one value after the other."""


class WorkerProcess:
    """A worker and the time that its answers take."""

    def __init__(self, root: Path) -> None:
        command = [sys.executable, "-m", "fulgurite.board.worker.main", "--root", str(root)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root)
        self.watched = psutil.Process(self.process.pid)

    def ask(self, choices: dict[str, str], values: dict[str, str]) -> tuple[float, float]:
        """Returns (clock, processor) seconds of a plan."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        draft = {"choices": choices, "values": values}
        begin, before = time.perf_counter(), self._read_processor()
        self.process.stdin.write(json.dumps({"id": 1, "kind": "plan", "draft": draft}).encode() + b"\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        if answer["status"] != 200:
            raise SystemExit(answer["body"]["error"])
        return time.perf_counter() - begin, self._read_processor() - before

    def _read_processor(self) -> float:
        times = self.watched.cpu_times()
        return float(times.user + times.system)

    def measure_memory(self) -> int:
        """Returns the bytes that the worker has in memory."""
        return int(self.watched.memory_info().rss)

    def close(self) -> None:
        """Ends the worker."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def measure_plans(root: Path, model: str, repeats: int) -> list[Measurement]:
    """Returns the latency of plans, and the memory of the worker."""
    choices = {"model": model}
    cold, rows = [], list[Measurement]()
    for number in range(repeats + 1):
        worker = WorkerProcess(root)
        begin = time.perf_counter()
        clock, processor = worker.ask(choices, {})
        if number:  # the first tokenises the data and makes the outline, which the cache keeps
            cold.append((time.perf_counter() - begin, processor, clock))
        if number < repeats:
            worker.close()
    rows.append(Measurement(
        f"plan, {model}: cold, with the start of the worker", f"{median(c for c, _, _ in cold):.2f} s",
        median(p for _, p, _ in cold),
    ))
    for name, typed in CHANGES.items():
        worker.ask(choices, {name: typed[0]})
        found = [worker.ask(choices, {name: text}) for text in typed[1:]]
        rows.append(Measurement(
            f"plan, {model}: warm, {name} changed", f"{median(c for c, _ in found):.2f} s", median(p for _, p in found)
        ))
    rows.append(Measurement(f"plan, {model}: memory of the worker", f"{worker.measure_memory() / 1e6:.0f} MB"))
    worker.close()
    return rows
