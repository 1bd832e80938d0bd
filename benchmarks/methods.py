"""`make bench-methods`: every method with AdamW, and every other optimizer with full fine-tuning, on the bundled model.

Each row is `fulgurite train` in a process of its own, on the same rows of the shipped data in the same order, with the
rate that
Fulgurite derives for it: trained parameters, peak memory, trained tokens a second, validation loss after the last step.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from pathlib import Path

from benchmarks.language import measured
from fulgurite.config.run import load_options
from fulgurite.explain.compatibility import find_refusal, list_names


def row(method: str, optim: str, steps: int, precision: str, more: list[str], folder: Path) -> list[str]:
    """One run as the cells of its row."""
    run = Path(tempfile.mkdtemp(dir=folder))
    words = [
        f"method={method}", f"optim={optim}", f"precision={precision}", "scheduler=constant_with_warmup",
        f"trainer.max_steps={steps}",
        "trainer.global_batch_size=4", "data.max_length=128", "data.too_long=truncate", f"trainer.eval_every={steps}",
        "stage.prompts=[]",
        "trainer.save_every=100000", f"run_dir={run}", *more,
    ]
    cell = measured([sys.executable, "-m", "fulgurite", "train", *words], run / "metrics.jsonl")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    config = (run / "config.yaml").read_text()
    rate = float(re.search(r"^optim:.*?^  lr: (\S+)", config, re.S | re.M)[1])  # type: ignore[index]
    weights = run / "checkpoints" / "last" / "weights.safetensors"
    with weights.open("rb") as stream:
        head = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    trained = 0
    for name, tensor in head.items():
        if name != "__metadata__":
            numbers = 1
            for size in tensor["shape"]:
                numbers *= size
            trained += numbers
    val = next(line["val/loss"] for line in reversed(lines) if "val/loss" in line)
    return [method, optim, f"{trained:,}", f"{rate:g}", f"{cell.memory:,.0f} MB", f"{cell.speed:.0f}", f"{val:.3f}"]


def main() -> None:
    """Print a row as it is measured, then the loss of the model as it was."""
    load_options()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--methods", nargs="+", help="only these, with AdamW")
    parser.add_argument("words", nargs="*", help="overrides for every run, after --")
    asked = parser.parse_args()
    runs = [(method, "adamw") for method in asked.methods or list_names("method")]
    if not asked.methods:
        runs += [
            ("full", optim)
            for optim in list_names("optim") if optim != "adamw" and find_refusal(method="full", optim=optim) is None
        ]
    print(
        f"| method | optimizer | trained parameters | rate | peak memory | tokens/s | validation loss after "
        f"{asked.steps} steps |"
    )
    print("|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        for method, optim in runs:
            print(
                "| " + " | ".join(row(method, optim, asked.steps, asked.precision, asked.words, Path(scratch))) + " |",
                flush=True,
            )


if __name__ == "__main__":
    main()
