"""Packed rows by documents beside a mask of the whole row: one forward and backward pass.

    python -m benchmarks.attention [--lengths 512,1024]

A Llama of 4 layers, 256 wide, with 8 heads of 32 and 4 of keys, made from its config; one row of random tokens, packed
from documents of a quarter of it on average. Seconds are medians; memory is what the pass adds to the process at its
peak, each cell in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from fulgurite.data.documents import find_documents
from fulgurite.model.document_attention import know_rows
from fulgurite.model.document_probe import use_documents

WAYS = ("mask", "documents")
PARTS = (0.4, 0.3, 0.15, 0.1, 0.05)
"""The documents, as shares of the row."""
SHAPE: dict[str, Any] = {
    "vocab_size": 512, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 8,
    "num_key_value_heads": 4, "max_position_embeddings": 8192,
}


def build_model(way: str) -> Any:
    """The model, by documents or with its mask."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model("llama", **SHAPE), dtype=torch.float32, attn_implementation="sdpa"
    )
    assert way == "mask" or use_documents(model)
    return model.train()


def run_pass(model: Any, length: int, way: str) -> float:
    """Seconds of one thread for a forward and backward pass; other programs of the machine do not count."""
    cuts = [round(part * length) for part in PARTS]
    positions = torch.cat([torch.arange(n) for n in [*cuts[:-1], length - sum(cuts[:-1])]])[None]
    ids = torch.randint(5, 500, (1, length), generator=torch.Generator().manual_seed(1))
    documents = find_documents(positions)
    began = time.process_time()
    if way == "documents":
        with know_rows(documents):
            out = model.get_decoder()(input_ids=ids, position_ids=positions, use_cache=False)
    else:
        out = model.get_decoder()(input_ids=ids, position_ids=positions, use_cache=False)
    out.last_hidden_state.square().mean().backward()
    took = time.process_time() - began
    model.zero_grad()
    return took


def measure_cell(length: int, way: str, repeats: int) -> dict[str, float]:
    """The median seconds, and the megabytes that the passes add."""
    model = build_model(way)
    run_pass(model, 64, way)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times = [run_pass(model, length, way) for _ in range(repeats + 1)][1:]
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": statistics.median(times), "mb": (most - before) / 1024}


def main() -> None:
    """Prints a table; with --cell one cell of it, for the process that measures it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", default="512,1024,2048,4096")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cell", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.cell:
        print(json.dumps(measure_cell(int(asked.cell[0]), asked.cell[1], asked.repeats)))
        return
    print("| tokens of a row | mask | documents | speed | memory, mask | memory, documents |")
    print("|---|---|---|---|---|---|")
    for length in map(int, asked.lengths.split(",")):
        found = {}
        for way in WAYS:
            words = [sys.executable, "-m", "benchmarks.attention", "--repeats", str(asked.repeats)]
            done = subprocess.run([*words, "--cell", str(length), way], check=True, capture_output=True, text=True)
            found[way] = json.loads(done.stdout.splitlines()[-1])
        mask, documents = found["mask"], found["documents"]
        print(
            f"| {length:,} | {mask['seconds']:.3f} s | {documents['seconds']:.3f} s | "
            f"{mask['seconds'] / documents['seconds']:.2f} × | {mask['mb']:.0f} MB | {documents['mb']:.0f} MB |",
            flush=True,
        )


if __name__ == "__main__":
    main()
