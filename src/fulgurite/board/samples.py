"""Reads samples.jsonl of a run: each prompt with its answers before, during and after training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fulgurite.logger.metrics_file import read_rows

MOST_BYTES = 16 << 20
"""Size of the largest file that is read; 8 prompts at 100 evaluations have about 1 MB."""


def read_samples(folder: Path) -> list[dict[str, Any]]:
    """Returns the prompts of a run in their order, each with its answers by step. Never raises on what is in the
    folder."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for row in read_own_rows(folder / "samples.jsonl"):
        prompt, text = row.get("prompt"), row.get("answer")
        if isinstance(prompt, str) and isinstance(text, str):
            # a row that was written twice counts once
            answer = {"step": row["step"], "text": text, "stopped": row.get("stopped") is not False}
            found.setdefault(prompt, {})[row["step"]] = answer
    return [
        {"prompt": prompt, "answers": [answers[step] for step in sorted(answers)]} for prompt, answers in found.items()
    ]


def read_own_rows(path: Path) -> list[dict[str, Any]]:
    """Returns the rows with a step of a JSONL file of a run; none if it is missing, a link, or too large."""
    try:
        if path.is_symlink() or path.stat().st_size > MOST_BYTES:
            return []
        return read_rows(path)[0]
    except OSError:
        return []
