"""A DPO step with LoRA on eight real pairs: ours beside a bare loop of two forward passes, interleaved in one run.

    python -m benchmarks.preference --data pairs.json --pairs 24

Both take the same pairs in the same steps, `data.shuffle` being off. Each cell is a process of its own, as in
benchmarks/language.py.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from benchmarks.language import HERE, Cell, measured
from fulgurite.data.cache import find_cache_root
from fulgurite.data.preference_format import convert_pair
from fulgurite.data.template import load_template
from fulgurite.model import smollm2

USUAL = HERE.parent / "shared" / "data" / "dpo_en_demo.json"
BATCH = 8


def fitting(data: Path, count: int, longest: int) -> list[dict[str, Any]]:
    """The first pairs of which both sides have at most `longest` tokens, so that neither way drops or cuts one."""
    template = load_template(None, AutoTokenizer.from_pretrained(find_cache_root() / "models" / smollm2.NAME))
    found: list[dict[str, Any]] = []
    for record in json.loads(data.read_text()):
        pair = convert_pair(record)
        if max(len(template.encode_chat(pair[side], "last")[0]) for side in ("messages", "rejected")) <= longest:
            prompt = [{"role": m.role, "content": m.content} for m in pair["messages"][:-1]]
            found.append(
                {"prompt": prompt, "chosen": pair["messages"][-1].content, "rejected": pair["rejected"][-1].content}
            )
    return found[:count]


def ours(precision: str, pairs: Path, longest: int, micro: int) -> Cell:
    """`fulgurite train`, as a person would call it."""
    run = Path(tempfile.mkdtemp(dir=pairs.parent))
    words = [
        "stage=dpo", "method=lora", f"precision={precision}", "data=file", f"data.path={pairs}", f"run_dir={run}",
        "trainer.epochs=1",
        "data.val_fraction=0", "data.shuffle=false", f"trainer.global_batch_size={BATCH}",
        f"trainer.micro_batch_size={micro}",
        f"data.max_length={longest}", "stage.prompts=[]", "trainer.save_every=100000", "plan.allow=[steps.too-few]",
    ]
    return measured([sys.executable, "-m", "fulgurite", "train", *words], run / "metrics.jsonl")


def bare(precision: str, pairs: Path, longest: int, micro: int) -> Cell:
    """The floor."""
    return measured(
        [sys.executable, "-m", "benchmarks.bare_pairs", precision, str(pairs), str(BATCH), str(micro)], None,
    )


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("FULGURITE_BENCH_PAIRS", USUAL)), help="a JSON file of pairs",
    )
    parser.add_argument("--pairs", type=int, default=24)
    parser.add_argument("--longest", type=int, default=512, help="tokens of a side")
    parser.add_argument("--micro", type=int, default=2, help="pairs a micro-batch, in both ways")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--precisions", nargs="+", default=["bf16"])
    asked = parser.parse_args()
    if not asked.data.is_file():
        raise SystemExit(f"{asked.data} is not there; give --data <a JSON file of pairs>.")
    cells: dict[tuple[str, str], list[Cell]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        pairs = Path(scratch) / "pairs.json"
        pairs.write_text(json.dumps(fitting(asked.data, asked.pairs, asked.longest)))
        for _ in range(asked.repeats):
            for precision in asked.precisions:
                job = (precision, pairs, asked.longest, asked.micro)
                for who, way in (("ours", ours), ("bare loop", bare)):
                    cells.setdefault((precision, who), []).append(cell := way(*job))
                    print(
                        f"{precision} {who} {cell.speed:.0f} tokens/s, {cell.memory:,.0f} MB, loss {cell.loss:.4f}",
                        flush=True,
                    )
    print(table(cells), flush=True)


def table(cells: dict[tuple[str, str], list[Cell]]) -> str:
    """Markdown: a row a cell, medians, and ours against the bare loop."""
    lines = [
        f"| DPO, LoRA, steps of {BATCH} pairs | | trained tokens/s | peak memory | to first step | speed against the "
        f"bare loop |",
        "|---|---|---|---|---|---|",
    ]
    for (precision, who), found in cells.items():
        speed, memory, first = (statistics.median(getattr(c, n) for c in found) for n in ("speed", "memory", "first"))
        floor = statistics.median(c.speed for c in cells[(precision, "bare loop")])
        gain = f"{speed / floor:.2f} ×" if who != "bare loop" else ""
        lines.append(f"| {precision} | {who} | {speed:.0f} | {memory:,.0f} MB | {first:.1f} s | {gain} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
