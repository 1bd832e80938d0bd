"""`make advice`: is what Fulgurite derives right? Validation loss on the bundled model, after the same number of
optimizer steps.

(a) the values that Fulgurite derives; (b) the defaults of LLaMA-Factory's web page: rate 5e-5, cosine, batch 16, rank
8, alpha 16, no
warmup; (c) the best of a search over the rate, the rank, dropout and warmup, with the batch size of (a), whose first
trial is (a).
All three hold out the same rows, are evaluated at the same fifths of the run, and count by the best of these
evaluations.
A finished cell is kept in FOLDER/cells.json, a search in its study: the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

SHARED = Path(os.environ.get("FULGURITE_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


@dataclass(frozen=True)
class Set:
    """A data set: where it lies (None: shipped) and the stage that reads it."""

    name: str
    file: str | None
    stage: str = "sft"

    def words(self) -> list[str] | None:
        """The overrides that name it; None where the file is not here."""
        if self.file is None:
            return [f"stage={self.stage}"]
        path = SHARED / self.file
        return [f"stage={self.stage}", "data=file", f"data.path={path}"] if path.is_file() else None


SETS = (
    Set("guide", None), Set("alpaca_en_demo", "alpaca_en_demo.json"),
    Set("glaive_toolcall_en_demo", "glaive_toolcall_en_demo.json"),
    Set("identity", "identity.json"), Set("c4_demo", "c4_demo.jsonl", "pt"),
)
THEIRS = [
    "optim.lr=5e-5", "scheduler=cosine", "scheduler.warmup_ratio=0", "trainer.global_batch_size=16", "method.rank=8",
    "method.alpha=16",
]
SEARCHED = "sweep.knobs=[optim.lr,method.rank,method.dropout,scheduler.warmup_ratio]"


def trained(words: list[str]) -> None:
    """`fulgurite train` in a process of its own, its words on stderr."""
    subprocess.run([sys.executable, "-m", "fulgurite", "train", *words], check=True, stdout=sys.stderr)


def best(run: Path) -> float:
    """The best validation loss of a run."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return min(float(row["val/loss"]) for row in rows if "val/loss" in row)


def cell(column: str, data: Set, words: list[str], asked: argparse.Namespace) -> float:
    """The loss of one cell, trained or searched for in a folder of its own, which is gone on with where it is begun."""
    run = asked.folder / f"{data.name}-{column}-{asked.steps}"
    if column == "search":
        searched = [
            f"+sweep={data.stage}_lora", SEARCHED, f"sweep.trials={asked.trials}", "sweep.study=advice",
            f"run_dir={run}",
        ]
        trained(["-m", *(word for word in words if not word.startswith("stage=")), *searched])
        trials = [json.loads(line) for line in (run / "trials.jsonl").read_text().splitlines()]
        return min(float(t["value"]) for t in trials if t["value"] is not None)
    trained([*words, *(THEIRS if column == "theirs" else []), f"run_dir={run}"])
    return best(run)


def main() -> None:
    """Print the table, a row as soon as its cells are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60, help="optimizer steps of every run")
    parser.add_argument("--trials", type=int, default=30, help="trials of each search; 0 leaves the column out")
    parser.add_argument("--sets", nargs="*", default=[s.name for s in SETS], help="data sets by name")
    parser.add_argument("--folder", type=Path, default=Path("runs/advice"))
    parser.add_argument("words", nargs="*", help="overrides for every run, after --")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    kept = asked.folder / "cells.json"
    cells: dict[str, float] = json.loads(kept.read_text()) if kept.is_file() else {}
    columns = ["derived", "theirs", *(["search"] if asked.trials else [])]
    heads = {
        "derived": "(a) derived", "theirs": "(b) LLaMA-Factory's defaults",
        "search": f"(c) best of {asked.trials} trials",
    }
    named = ["data", *(heads[column] for column in columns), *(f"(a) to {heads[column][:3]}" for column in columns[1:])]
    print(f"| {' | '.join(named)} |\n|{'---|' * len(named)}", flush=True)
    for data in SETS:
        words = data.words()
        if data.name not in asked.sets:
            continue
        if words is None:
            print(f"{data.name} is left out: {SHARED / str(data.file)} is not here.", file=sys.stderr)
            continue
        words += [
            "method=lora", f"trainer.max_steps={asked.steps}", f"trainer.eval_every={-(-asked.steps // 5)}",
            f"trainer.save_every={asked.steps}", "trainer.keep_checkpoints=1", "stage.prompts=[]", *asked.words,
        ]
        found: dict[str, float] = {}
        for column in columns:
            key = " ".join(
                [
                    data.name, column, str(asked.steps), *([str(asked.trials)] if column == "search" else []),
                    *asked.words
                ]
            )
            if key not in cells:
                cells[key] = cell(column, data, words, asked)
                kept.write_text(json.dumps(cells, indent=1) + "\n")
            found[column] = cells[key]
        shown = [f"{found[column]:.4f}" for column in columns]
        ratios = [f"{found['derived'] / found[column] - 1:+.1%}" for column in columns[1:]]
        print(f"| {' | '.join([data.name, *shown, *ratios])} |", flush=True)


if __name__ == "__main__":
    main()
