"""Pairs and judged answers that a tiny model tells apart, as records and files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

GOOD = ("the rate rises", "the loss falls", "a schedule of the rate", "warmup lets it rise, slowly, for a while")
BAD = ("houses and rivers", "once upon a time there was", "animals and numbers", "a little model")


def pairs(count: int) -> list[dict[str, Any]]:
    return [
        {"prompt": f"What is {n}?", "chosen": f"{GOOD[n % 4]} {n}.", "rejected": f"{BAD[n * 7 % 4]} {n}."}
        for n in range(count)
    ]


def judged(count: int) -> list[dict[str, Any]]:
    each = [(p["prompt"], p[side], side == "chosen") for p in pairs(count) for side in ("chosen", "rejected")]
    return [{"prompt": prompt, "completion": answer, "label": good} for prompt, answer, good in each]


def written(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    return path


def words_of(stage: str, folder: Path) -> list[str]:
    """The words of a run on 80 pairs, or on judged answers to 40 prompts in stage=kto."""
    path = written(folder / f"{stage}.jsonl", judged(40) if stage == "kto" else pairs(80))
    data = ["data=file", f"data.path={path}", "data.max_samples=null"]
    return [f"stage={stage}", *data, "optim.lr=1e-2", "scheduler=constant"]
