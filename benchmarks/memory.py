"""`python -m benchmarks.memory`: the estimate of `plan` beside the measured peak, a row a setting, on the bundled
model.

Each setting is a process of its own that trains two optimizer steps of two micro-batches on rows of exact length and
writes its
checkpoint; measured is the most that the system saw it hold (ru_maxrss). No setting has a number of its own in the
estimate.
With --keep FILE what was measured is kept, and a second call measures only what is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
STEPS, MICRO_BATCHES, ROWS = 2, 2, 12
SETTINGS = (
    "lora bf16 512 1", "lora bf16 256 1", "lora bf16 1024 1", "lora bf16 512 4", "lora fp32 512 1",
    "lora pure_bf16 512 2",
    "qlora bf16 512 1", "qlora bf16 1024 2", "full bf16 512 1", "full bf16 256 2", "full fp32 512 1", "full fp32 256 4",
    "full pure_bf16 512 2", "freeze bf16 512 2", "freeze fp32 1024 1",
    "full bf16 1024 2 trainer.gradient_checkpointing=true",
    "full bf16 512 1 optim=adamw_8bit", "lora bf16 512 2 method.rank=64 trainer.gradient_checkpointing=true",
    "lora bf16 512 2 trainer.gradient_checkpointing=true", "lora bf16 1024 2 trainer.gradient_checkpointing=true",
    "lora fp32 512 2 trainer.gradient_checkpointing=true",
)
"""method, precision, tokens a row, rows a micro-batch, and other overrides. The share that the allocator keeps free was
fitted to these."""
HELD_OUT = (
    "lora bf16 512 2 method.rank=64", "lora fp32 1024 1", "qlora bf16 512 1 method.rank=64", "dora bf16 512 2",
    "oft bf16 512 1",
    "layerwise bf16 512 2", "freeze fp32 256 2", "full bf16 256 1 optim=adafactor", "full pure_bf16 256 1 optim=lion",
)
"""Nothing was fitted to these."""


def words(setting: str, rows: Path, model: Sequence[str] = ("model=smollm2_135m",)) -> list[str]:
    """The overrides of a setting."""
    method, precision, length, micro_batch, *more = setting.split()
    return [
        *model, f"method={method}", f"precision={precision}", "data=file", f"data.path={rows}",
        f"data.max_length={length}",
        "data.too_long=truncate", "data.mask=all", "data.val_fraction=0", "stage.prompts=[]",
        f"trainer.micro_batch_size={micro_batch}",
        f"trainer.global_batch_size={MICRO_BATCHES * int(micro_batch)}", f"trainer.max_steps={STEPS}",
        "trainer.save_every=100000",
        *(["method.rank=16"] if method in ("lora", "qlora") else []), *more,
    ]


def rows_of(folder: Path) -> Path:
    """Examples long enough to be cut to every length that is asked for."""
    text = " ".join(
        f"The {n}th glass of sand melts at {n * 7 % 1000} degrees and cools by the window."
        for n in range(1000)
    )
    made = [
        {"instruction": f"Tell me of glass number {n}.", "output": text[n * 500 : n * 500 + 9000]}
        for n in range(ROWS)
    ]
    path = folder / "rows.json"
    path.write_text(json.dumps(made))
    return path


def measured(setting: str) -> int:
    """Bytes at the peak of the whole process."""
    with tempfile.TemporaryDirectory() as scratch, open(os.devnull, "w") as nowhere:
        command = [
            sys.executable, "-m", "fulgurite", "train", *words(setting, rows_of(Path(scratch))),
            f"run_dir={scratch}/run",
        ]
        child = subprocess.Popen(
            command, stdout=nowhere, stderr=subprocess.PIPE, cwd=HERE, env=os.environ | {"HF_HUB_OFFLINE": "1"},
        )
        assert child.stderr is not None
        said = child.stderr.read().decode()
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if status:
            raise SystemExit(f"{setting} failed:\n{said[-2000:]}")
        return used.ru_maxrss * 1024


def estimated(setting: str) -> int:
    """Bytes at the peak as `plan` estimates them, on a model without weights."""
    import fulgurite as fg

    with tempfile.TemporaryDirectory() as scratch:
        plan = fg.experiment(*words(setting, rows_of(Path(scratch)))).plan()
    return int(plan.to_dict()["memory"]["peak"])


def main() -> None:
    """Print one markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, help="a JSON file of what was measured: setting to bytes")
    parser.add_argument("settings", nargs="*", default=SETTINGS + HELD_OUT)
    asked = parser.parse_args()
    kept = json.loads(asked.keep.read_text()) if asked.keep and asked.keep.is_file() else {}
    for setting in asked.settings:
        if setting not in kept:
            kept[setting] = measured(setting)
            if asked.keep:
                asked.keep.write_text(json.dumps(kept, indent=1))
    print("| method, precision, tokens a row, rows a micro-batch | estimated | measured | error |\n|---|---|---|---|")
    for setting in asked.settings:  # after the measuring: a child's peak is at least its parent's size at its start
        method, precision, length, micro_batch, *more = setting.split()
        guess, seen = estimated(setting) / 1e6, kept[setting] / 1e6
        name = ", ".join([method, precision, length, micro_batch, *(f"`{word}`" for word in more)])
        print(f"| {name} | {guess:,.0f} MB | {seen:,.0f} MB | {guess / seen - 1:+.1%} |")


if __name__ == "__main__":
    main()
