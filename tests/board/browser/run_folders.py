"""Run folders as training leaves them, without training."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fulgurite.files.lock import hold_lock
from fulgurite.run.status import LOCK

HOSTILE = "<img src=x onerror=\"window.__hacked=1\"><script>window.__hacked=1</script>"


def write_run(
    folder: Path, *, state: str = "finished", steps: int = 60, total: int | None = None, name: str = "",
    knobs: Mapping[str, Any] | None = None, findings: Sequence[Mapping[str, Any]] = (),
    samples: Sequence[Mapping[str, Any]] = (), why: str = "", started: float | None = None, metrics: bool = True,
    pid: int = 2**22 + 1,
) -> Path:
    """Writes a run folder and returns it. Nobody trains a run that is `running`: the board calls it died."""
    folder.mkdir(parents=True, exist_ok=True)
    begin = time.time() - 600 if started is None else started
    status = {
        "state": state, "host": os.uname().nodename, "pid": pid, "locked": True, "started": begin,
        "total_steps": total or steps, "name": name or folder.name,
    }
    if why:
        status["why"] = why
    if state != "running":
        status["ended"] = begin + 120.0
    (folder / "status.json").write_text(json.dumps(status), encoding="utf-8")
    values = {"optim.lr": 1e-4, "method.rank": 8, **(knobs or {}), "name": name or folder.name}
    provenance = {
        "choices": {"stage": "sft", "method": "lora", "model": "tiny"},
        "overrides": ["stage=sft", "model=tiny", *(f"{path}={value}" for path, value in (knobs or {}).items())],
        "knobs": {path: {"value": value, "origin": "given"} for path, value in values.items()},
    }
    (folder / "provenance.json").write_text(json.dumps(provenance), encoding="utf-8")
    if metrics:
        write_metrics(folder / "metrics.jsonl", steps)
    for file, rows in (("watch.jsonl", findings), ("samples.jsonl", samples)):
        if rows:
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            (folder / file).write_text(text, encoding="utf-8")
    return folder


def write_metrics(path: Path, steps: int, first: int = 1) -> None:
    """Appends rows of metrics, with a validation every tenth of the run."""
    every = max(1, steps // 10)
    with path.open("a", encoding="utf-8") as out:
        for step in range(first, first + steps):
            row = make_row(step)
            out.write(json.dumps(row) + "\n")
            if step % every == 0:
                val = {"step": step, "epoch": 0, "tokens": 400 * step, "val/loss": row["train/loss"] + 0.05}
                out.write(json.dumps(val) + "\n")


def make_row(step: int) -> dict[str, Any]:
    """Returns the row of a step of training."""
    return {
        "step": step, "epoch": 0, "tokens": 400 * step,
        "train/loss": 1.5 + 2.0 * math.exp(-step / 40) + 0.1 * math.sin(step * 1.7), "train/lr": 1e-4,
        "train/grad_norm": 0.8 + 0.2 * math.cos(step), "train/clipped": float(step % 5 == 0),
        "train/tokens_per_second": 1500.0,
    }


@contextlib.contextmanager
def grow_run(folder: Path, rows_per_second: float = 5.0) -> Iterator[Path]:
    """Writes a run folder as one that trains until the block ends: its lock is held, and rows come one by one.

    What the page sees is what a real run shows; the processor, which a real one takes for itself, is left to the page.
    """
    write_run(folder, state="running", steps=30, total=100_000, pid=os.getpid())
    ended = threading.Event()

    def append() -> None:
        for step in itertools.count(31):
            if ended.wait(1 / rows_per_second):
                return
            with (folder / "metrics.jsonl").open("a", encoding="utf-8") as out:
                out.write(json.dumps(make_row(step)) + "\n")

    with hold_lock(folder / LOCK):
        thread = threading.Thread(target=append)
        thread.start()
        try:
            yield folder
        finally:
            ended.set()
            thread.join()


def make_finding(step: int, sentence: str, severity: str = "warning", rule: str = "clipping") -> dict[str, Any]:
    """Returns a row of watch.jsonl."""
    return {"step": step, "rule": rule, "severity": severity, "sentence": sentence, "remedy": "optim.lr=5e-5"}


def make_samples(prompt: str, answers: Mapping[int, str]) -> list[dict[str, Any]]:
    """Returns rows of samples.jsonl."""
    return [
        {"step": step, "prompt": prompt, "answer": text, "tokens": 8, "stopped": True} for step, text in answers.items()
    ]
