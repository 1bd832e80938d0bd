"""Run folders as a run leaves them, made without training."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fulgurite.checkpoint.folder import PARTS


def make_run(
    folder: Path, losses: Sequence[float] = (3.0, 2.0, 1.0), *, choices: dict[str, str] | None = None,
    knobs: dict[str, Any] | None = None, checkpoint: int | None = None, **status: Any,
) -> Path:
    """Writes a run folder with a row for each loss; returns it."""
    folder.mkdir(parents=True)
    usual = {"state": "finished", "started": 100.0, "ended": 160.0, "host": socket.gethostname(), "pid": os.getpid()}
    (folder / "status.json").write_text(json.dumps(usual | status))
    values = {k: {"value": v, "origin": "command line", "reason": ""} for k, v in (knobs or {"optim.lr": 1e-4}).items()}
    words = [f"{k}={v}" for k, v in {**(choices or {}), **(knobs or {"optim.lr": 1e-4})}.items()]
    (folder / "provenance.json").write_text(
        json.dumps({"overrides": [*words, f"run_dir={folder}"], "choices": choices or {}, "knobs": values})
    )
    write_rows(folder, [{"step": n, "train/loss": loss} for n, loss in enumerate(losses, 1)])
    if checkpoint is not None:
        place = folder / "checkpoints" / f"step-{checkpoint}"
        place.mkdir(parents=True)
        for part in PARTS:
            (place / part).write_text("")
    return folder


def write_rows(folder: Path, rows: Sequence[dict[str, Any]], name: str = "metrics.jsonl") -> None:
    """Appends rows to a file of a run."""
    with (folder / name).open("a") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)


def wait_until(is_true: Any, seconds: float = 20.0) -> None:
    """Returns as soon as `is_true()` holds; fails after so many seconds."""
    end = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)
