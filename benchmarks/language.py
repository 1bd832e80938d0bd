"""`make bench`: LoRA and full SFT of the bundled model, ours beside a bare PyTorch loop, interleaved in one run.

Both train the same real examples with the same masks, batch size and optimizer. Each cell is a process of its own: peak
memory is the system's word, and a step's time is when its line appears. Medians over the repeats.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]
USUAL = HERE.parent / "shared" / "data" / "alpaca_en_demo.json"
BATCH = 16
SAME = {"lora": ["method.rank=16"]}
"""What ours would derive otherwise than the bare loop has it."""


@dataclass(frozen=True)
class Cell:
    """What one process measured."""

    speed: float
    padding: float
    memory: float
    first: float
    loss: float


def measured(command: list[str], lines: Path | None) -> Cell:
    """Run a command that writes a line a step (to `lines`, or to stdout); times are when lines appear."""
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = subprocess.Popen(command, stdout=out, stderr=err, cwd=HERE, env=os.environ | {"HF_HUB_OFFLINE": "1"})
        rows: list[tuple[float, dict[str, Any]]] = []
        ended: tuple[int, int, Any] = (0, 0, None)
        while ended[0] == 0:
            ended = os.wait4(child.pid, os.WNOHANG)
            time.sleep(0.02)
            if lines is None:
                out.seek(0)
                text = out.read()
            else:
                text = lines.read_text() if lines.exists() else ""
            found = [json.loads(line) for line in text.splitlines() if line.startswith("{") and line.endswith("}")]
            found = [row for row in found if "val/loss" not in row]
            rows += [(time.perf_counter() - began, row) for row in found[len(rows) :]]
        if ended[1] != 0:
            err.seek(0)
            raise SystemExit(f"{' '.join(command)} failed:\n{err.read()[-3000:]}")
    (first, a), (last, b) = rows[0], rows[-1]
    loss = b.get("train/loss", b.get("loss", 0.0))
    return Cell(
        (b["tokens"] - a["tokens"]) / (last - first), b.get("padding", 0.0), ended[2].ru_maxrss / 1024, first, loss,
    )


def ours(method: str, precision: str, data: Path, examples: int, folder: Path) -> Cell:
    """`fulgurite train`, as a person would call it."""
    subset = folder / "examples.json"
    if not subset.exists():
        subset.write_text(json.dumps(json.loads(data.read_text())[:examples]))
    run = Path(tempfile.mkdtemp(dir=folder))
    words = [
        f"method={method}", f"precision={precision}", "data=file", f"data.path={subset}", f"run_dir={run}",
        "trainer.epochs=1",
        "data.val_fraction=0", f"trainer.global_batch_size={BATCH}", "stage.prompts=[]", "data.max_length=2048",
        "trainer.micro_batch_size=4",
        "trainer.save_every=100000", *SAME.get(method, []),
    ]
    cell = measured([sys.executable, "-m", "fulgurite", "train", *words], run / "metrics.jsonl")
    return Cell(cell.speed, padding_of(words), cell.memory, cell.first, cell.loss)


def padding_of(words: list[str]) -> float:
    """The share of padding in the micro-batches of the run that `words` name, from its own order of its own lengths."""
    import fulgurite as fg
    from fulgurite.data.sampler import StepSampler

    experiment = fg.experiment(*words)
    config, lengths = experiment.config, experiment.gathered.rows.lengths
    t = config.trainer
    order = StepSampler(lengths, t.global_batch_size, t.micro_batch_size, 1, 0, config.seed, config.data.shuffle)
    cuts = [cut for step in range(order.steps_per_epoch) for cut in order.list_micro_batches(step) if cut]
    whole = sum(len(cut) * int(lengths[cut].max()) for cut in cuts)
    return 1 - float(lengths.sum()) / whole


def bare(method: str, precision: str, data: Path, examples: int) -> Cell:
    """The floor."""
    return measured(
        [sys.executable, "-m", "benchmarks.bare", method, precision, str(data), str(examples), str(BATCH), "4"], None,
    )


def long_rows(data: Path, folder: Path, count: int = 12) -> Path:
    """Examples of at least 512 tokens, made of real answers, so that each is cut to exactly 512."""
    records = json.loads(data.read_text())
    text = " ".join(record["output"] for record in records[:200])
    made = [{"instruction": records[n]["instruction"], "output": text[n * 500 : n * 500 + 6000]} for n in range(count)]
    path = folder / "long.json"
    path.write_text(json.dumps(made))
    return path


def peaks(method: str, precision: str, data: Path, folder: Path) -> tuple[float, float]:
    """Peak memory in MB, ours and the bare loop's, at steps of 4 examples of 512 tokens."""
    run = Path(tempfile.mkdtemp(dir=folder))
    words = [
        f"method={method}", f"precision={precision}", "data=file", f"data.path={data}", f"run_dir={run}",
        "trainer.max_steps=3",
        "data.val_fraction=0", "trainer.global_batch_size=4", "stage.prompts=[]", "data.max_length=512",
        "data.too_long=truncate", "data.mask=all",
        "trainer.save_every=100000", *SAME.get(method, []),
    ]
    mine = measured([sys.executable, "-m", "fulgurite", "train", *words], run / "metrics.jsonl")
    floor = measured(
        [sys.executable, "-m", "benchmarks.bare", method, precision, str(data), "12", "4", "4", "512"], None,
    )
    return mine.memory, floor.memory


def main() -> None:
    """Print one table of speed, and one of memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("FULGURITE_BENCH_DATA", USUAL)), help="an alpaca JSON file",
    )
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--methods", nargs="+", default=["lora", "full"])
    parser.add_argument("--precisions", nargs="+", default=["bf16", "fp32"])
    asked = parser.parse_args()
    if not asked.data.is_file():
        raise SystemExit(f"{asked.data} is not there; give --data <an alpaca JSON file>.")
    cells: dict[tuple[str, str, str], list[Cell]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for _ in range(asked.repeats):
            for method in asked.methods:
                for precision in asked.precisions:
                    job = (method, precision, asked.data, asked.examples)
                    cells.setdefault((method, precision, "ours"), []).append(ours(*job, Path(scratch)))
                    cells.setdefault((method, precision, "bare loop"), []).append(bare(*job))
        print(table(cells), flush=True)
        print("\n| 4 × 512 tokens a step | ours | bare loop | share |\n|---|---|---|---|")
        rows = long_rows(asked.data, Path(scratch))
        for method in asked.methods:
            for precision in asked.precisions:
                mine, floor = peaks(method, precision, rows, Path(scratch))
                print(f"| {method}, {precision} | {mine:,.0f} MB | {floor:,.0f} MB | {mine / floor:.2f} |", flush=True)


def table(cells: dict[tuple[str, str, str], list[Cell]]) -> str:
    """Markdown: a row a cell, medians, and ours against the bare loop."""
    lines = [
        "| method | precision | | trained tokens/s | padding | peak memory | to first step | speed against the bare "
        "loop |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (method, precision, who), found in cells.items():
        speed, padding, memory, first = (
            statistics.median(getattr(c, n) for c in found)
            for n in ("speed", "padding", "memory", "first")
        )
        floor = statistics.median(c.speed for c in cells[(method, precision, "bare loop")])
        gain = f"{speed / floor:.2f} ×" if who == "ours" else ""
        lines.append(
            f"| {method} | {precision} | {who} | {speed:.0f} | {padding:.0%} | {memory:,.0f} MB | {first:.1f} s | "
            f"{gain} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
