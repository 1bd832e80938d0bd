"""Run folders as training leaves them, without training."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HOSTILE = "<img src=x onerror=\"window.__hacked=1\"><script>window.__hacked=1</script>"


def write_run(
    folder: Path, *, state: str = "finished", steps: int = 60, total: int | None = None, name: str = "",
    knobs: Mapping[str, Any] | None = None, findings: Sequence[Mapping[str, Any]] = (),
    samples: Sequence[Mapping[str, Any]] = (), why: str = "", started: float | None = None, metrics: bool = True,
) -> Path:
    """Writes a run folder and returns it. Nobody trains a run that is `running`: the board calls it died."""
    folder.mkdir(parents=True, exist_ok=True)
    begin = time.time() - 600 if started is None else started
    status = {
        "state": state, "host": os.uname().nodename, "pid": 2**22 + 1, "locked": True, "started": begin,
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
            loss = 1.5 + 2.0 * math.exp(-step / 40) + 0.1 * math.sin(step * 1.7)
            row = {
                "step": step, "epoch": 0, "tokens": 400 * step, "train/loss": loss, "train/lr": 1e-4,
                "train/grad_norm": 0.8 + 0.2 * math.cos(step), "train/clipped": float(step % 5 == 0),
                "train/tokens_per_second": 1500.0,
            }
            out.write(json.dumps(row) + "\n")
            if step % every == 0:
                out.write(json.dumps({"step": step, "epoch": 0, "tokens": 400 * step, "val/loss": loss + 0.05}) + "\n")


def make_finding(step: int, sentence: str, severity: str = "warning", rule: str = "clipping") -> dict[str, Any]:
    """Returns a row of watch.jsonl."""
    return {"step": step, "rule": rule, "severity": severity, "sentence": sentence, "remedy": "optim.lr=5e-5"}


def make_samples(prompt: str, answers: Mapping[int, str]) -> list[dict[str, Any]]:
    """Returns rows of samples.jsonl."""
    return [
        {"step": step, "prompt": prompt, "answer": text, "tokens": 8, "stopped": True} for step, text in answers.items()
    ]
