"""Micro-batches without their padding beside padded ones: forward and backward passes of the same examples.

    python -m benchmarks.padding [--data FILE] [--steps 4] [--micro 4] [--precision bf16]

The bundled model on real examples, in steps of 16 as in `make bench`. In one process the two ways take turns on the
same micro-batches, so that the machine's speed is the same for both. Seconds are of the process, all threads together:
other programs do not count. The losses are compared, and must agree within rounding.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import fulgurite as fg

USUAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "alpaca_en_demo.json"
EXAMPLES = 100
"""Examples of the file that are read."""
ROUNDING = {"fp32": 1e-5, "bf16": 5e-3}


def run_step(module: Any, batches: list[dict[str, Any]], padded: bool) -> tuple[float, float]:
    """Returns the seconds of a step's passes, and the sum of its losses."""
    module.zero_grad()
    began, total = time.process_time(), 0.0
    for batch in batches:
        given = {k: v for k, v in batch.items() if k != "unpadded"} if padded else batch
        with module.dtypes.autocast("cpu"):
            loss = module.compute_total_loss(given)
        loss.backward()
        total += float(loss.detach())
    return time.process_time() - began, total


def compare(method: str, asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Returns one row of the table: the same steps by both ways, in turn."""
    data = folder / "examples.json"
    data.write_text(json.dumps(json.loads(asked.data.read_text())[:EXAMPLES]))
    experiment = fg.experiment(
        f"method={method}", f"precision={asked.precision}", "data=file", f"data.path={data}", "trainer.epochs=1",
        f"run_dir={folder / method}", "data.val_fraction=0", "trainer.global_batch_size=16", "stage.prompts=[]",
        "data.max_length=2048", "plan.allow=[steps.too-few]", f"trainer.micro_batch_size={asked.micro}",
    )
    module, data_module = experiment.module, experiment.data
    batches = list(data_module.train_dataloader())
    per_step = data_module.micro_batches_per_step
    steps = [batches[n : n + per_step] for n in range(0, len(batches), per_step)][: asked.steps]
    run_step(module, steps[0], True)  # warms up
    seconds: dict[bool, list[float]] = {True: [], False: []}
    tokens = rows = 0
    worst = 0.0
    for n, step in enumerate(steps):
        losses = {}
        for padded in (True, False) if n % 2 else (False, True):
            took, losses[padded] = run_step(module, step, padded)
            seconds[padded].append(took)
        tokens += sum(batch["tokens"] for batch in step)
        rows += sum(batch["input_ids"].numel() for batch in step)
        worst = max(worst, abs(losses[True] - losses[False]) / losses[True])
    if not worst <= ROUNDING[asked.precision]:
        raise SystemExit(f"{method}: the losses differ by {worst:.1e}")
    gains = [one / two for one, two in zip(seconds[True], seconds[False], strict=True)]
    return {
        "method": method, "padding": 1 - tokens / rows, "padded": tokens / sum(seconds[True]),
        "unpadded": tokens / sum(seconds[False]), "gain": statistics.median(gains), "difference": worst,
    }


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description="Micro-batches without their padding beside padded ones.")
    parser.add_argument("--data", type=Path, default=USUAL)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--micro", type=int, default=4, help="examples of a micro-batch")
    parser.add_argument("--precision", choices=[*ROUNDING], default="bf16")
    parser.add_argument("--methods", default="lora,full")
    asked = parser.parse_args()
    print(f"{torch.get_num_threads()} threads, {asked.precision}, micro-batches of {asked.micro}")
    print("| method | padding | tokens a second of processor, padded | without padding | gain | losses differ by |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for method in asked.methods.split(","):
            row = compare(method, asked, Path(folder))
            print(
                f"| {row['method']} | {row['padding']:.1%} | {row['padded']:.0f} | {row['unpadded']:.0f} "
                f"| {row['gain']:.2f} × | {row['difference']:.1e} |", flush=True,
            )


if __name__ == "__main__":
    main()
