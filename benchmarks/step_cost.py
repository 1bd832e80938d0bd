"""What a layer, a micro-batch and an optimizer step cost on a CPU besides arithmetic: the constants of
`src/fulgurite/plan/operations.py`. `python -m benchmarks.step_cost` takes about two minutes.

It trains models of 64 numbers a token on answers of one word, for which matrix products take no time to speak of, on
one thread, and fits

    seconds of a step = STEP + micro-batches × (PASS + layers × LAYER)

to the fastest tenth of the steps. Seconds of the processor, which a busy machine changes less than those of the clock.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fulgurite
from fulgurite.callback.optimizer_step import OptimizerStepCallback

LAYERS, MICRO_BATCHES = (2, 8, 24), (1, 4, 8)
FIRST_STEPS = 5
"""Steps that are left out: the first ones load code and grow memory."""
WORDS = (
    "model=tiny", "logger=none", "precision=fp32", "stage.prompts=[]", "data=file", "data.val_fraction=0",
    "data.template=alpaca", "trainer.micro_batch_size=1", "callback=none",
)


class StepClock(OptimizerStepCallback):
    """Notes the processor time at the end of each optimizer step."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def on_step(self, trainer: Any, stage: Any, step: int) -> None:
        """Called after each step."""
        self.times.append(time.process_time())


def measure_step(folder: Path, method: str, layers: int, micro_batches: int, steps: int) -> float:
    """Returns the processor seconds of a fast step."""
    clock = StepClock()
    words = [
        *WORDS, f"data.path={folder / 'short.jsonl'}", f"method={method}", f"model.layers={layers}",
        f"trainer.global_batch_size={micro_batches}",
        f"trainer.max_steps={steps + FIRST_STEPS}", f"trainer.eval_every={10 * steps}",
        f"trainer.save_every={10 * steps}", f"run_dir={folder / f'{method}-{layers}-{micro_batches}'}",
    ]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        fulgurite.experiment(*words, callbacks=[clock]).fit()
    return float(np.quantile(np.diff(clock.times[FIRST_STEPS - 1:]), 0.1))


def write_data(folder: Path) -> None:
    """Writes examples of few tokens."""
    records = [{"instruction": f"{n}", "output": f"{n + 1}"} for n in range(200)]
    (folder / "short.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def main() -> None:
    """Prints the medians and the fit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="+", default=["lora", "full"])
    parser.add_argument("--steps", type=int, default=40)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print("| method | layers | micro-batches | ms a step |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        write_data(Path(scratch))
        for method in given.methods:
            shapes = list(itertools.product(LAYERS, MICRO_BATCHES))
            found = [measure_step(Path(scratch), method, *shape, given.steps) for shape in shapes]
            for (layers, count), seconds in zip(shapes, found, strict=True):
                print(f"| {method} | {layers} | {count} | {1e3 * seconds:.1f} |", flush=True)
            terms = np.array([[1.0, count, count * layers] for layers, count in shapes])
            fit, *_ = np.linalg.lstsq(terms, np.array(found), rcond=None)
            print("".join(f"\n{name}: {1e3 * value:.2f} ms" for name, value in
                          zip(("step", "pass", "layer"), fit, strict=True)), "\n")


if __name__ == "__main__":
    main()
