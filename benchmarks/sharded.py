"""`python -m benchmarks.sharded`: the memory of each process of strategy=fsdp while a model is loaded, saved, resumed.

A model of 134 million parameters (0.54 GB in fp32) is trained fully for one step with AdamW by several CPU processes.
Measured is the most anonymous memory (RssAnon, read every 2 ms) above what a process had before, in copies of the
model; pages of mapped files, which the system may drop, do not count. A checkpoint with its optimizer is 3 copies.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]
EVERY = 0.002
ANONYMOUS = re.compile(r"RssAnon:\s+(\d+) kB")
WORDS = [
    "stage=sft", "method=full", "precision=fp32", "strategy=fsdp", "trainer.accelerator=cpu", "data.max_samples=40",
    "data.max_length=64", "data.too_long=truncate", "data.val_fraction=0", "trainer.global_batch_size=4",
    "trainer.micro_batch_size=1", "trainer.max_steps=2", "trainer.save_every=1", "trainer.keep_checkpoints=2",
    "stage.prompts=[]", "callback=none", "optim.lr=1e-5", "scheduler=constant", "plan.allow=[steps.too-few]",
]


def read_anonymous(process: int | str = "self") -> int:
    """Returns the bytes of anonymous memory of a process; 0 if it is gone."""
    try:
        found = ANONYMOUS.search(Path(f"/proc/{process}/status").read_text())
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


class Peak:
    """The most memory inside a block, above that at its beginning."""

    def __init__(self, read: Callable[[], int] = read_anonymous) -> None:
        self._read, self._ends = read, threading.Event()
        self.before = self.most = 0

    def __enter__(self) -> Peak:
        self.before = self.most = self._read()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._ends.wait(EVERY):
            self.most = max(self.most, self._read())

    def __exit__(self, *left: object) -> None:
        self._ends.set()
        self._thread.join()
        self.most = max(self.most, self._read())

    @property
    def bytes(self) -> int:
        """The difference."""
        return self.most - self.before


def build_model(folder: Path, layers: int) -> int:
    """Writes a Llama with the tokenizer of `model=tiny`; returns the bytes of its parameters."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from fulgurite.config.compose import compose
    from fulgurite.config.schema import build

    tiny = build(compose(["model=tiny"]).run.model, torch.float32)
    config = LlamaConfig(
        vocab_size=tiny.model.config.vocab_size, hidden_size=1024, intermediate_size=4096, num_hidden_layers=layers,
        num_attention_heads=16, num_key_value_heads=16, max_position_embeddings=256, pad_token_id=0,
    )
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    tiny.tokenizer.save_pretrained(folder)
    return sum(parameter.nbytes for parameter in model.parameters())


def measure_rank(words: list[str], out: Path, only_load: bool) -> None:
    """Runs one process of a run, and writes its peaks."""
    import fulgurite as fg
    from fulgurite.strategy.fsdp import ShardedStrategy

    found: dict[str, list[int]] = {}

    def watch(name: str, usual: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **more: Any) -> Any:
            with Peak() as peak:
                result = usual(*given, **more)
            found.setdefault(name, []).append(peak.bytes)
            return result

        return call

    experiment = fg.experiment(*words)
    _ = experiment.config
    with Peak() as loading:
        _ = experiment.module
    found["load"] = [loading.bytes]
    if not only_load:
        strategy: Any = ShardedStrategy
        strategy.save_checkpoint = watch("save", strategy.save_checkpoint)
        for name in ("load_checkpoint", "load_model_state_dict", "load_optimizer_state_dict"):
            setattr(strategy, name, watch("resume", getattr(strategy, name)))
        experiment.fit()
    out.write_text(json.dumps({name: max(values) for name, values in found.items()}))


def run_ranks(count: int, words: list[str], scratch: Path, *flags: str) -> tuple[list[dict[str, int]], int]:
    """Returns the peaks of each process, and the most that all had together above what they had when they began."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = os.environ | {
        "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }
    outs = [scratch / f"rank-{rank}.json" for rank in range(count)]
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.sharded", "--out", str(out), *flags, *words, f"trainer.devices={count}"],
            cwd=HERE, env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=(scratch / f"log-{rank}").open("w"), stdout=subprocess.DEVNULL,
        )
        for rank, out in enumerate(outs)
    ]
    with Peak(lambda: sum(read_anonymous(rank.pid) for rank in ranks)) as together:
        while any(rank.poll() is None for rank in ranks):
            time.sleep(0.05)
    failed = [number for number, rank in enumerate(ranks) if rank.returncode]
    if failed:
        raise SystemExit(f"rank {failed[0]} failed: {(scratch / f'log-{failed[0]}').read_text()[-2000:]}")
    return [json.loads(out.read_text()) for out in outs], together.most


def main() -> None:
    """Measures, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--out", help=argparse.SUPPRESS)
    parser.add_argument("--only-load", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.out:
        measure_rank(given.words, Path(given.out), given.only_load)
        return
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        size = build_model(scratch / "model", given.layers)
        print(f"model: {size / 1e9:.2f} GB; peaks in copies of it, a number for each process")
        for count in given.ranks:
            words = [*WORDS, "model=hf", f"model.path={scratch / 'model'}"]
            alone, _ = run_ranks(1, [*words, f"run_dir={scratch / 'one'}"], scratch, "--only-load")
            loads, together = run_ranks(count, [*words, f"run_dir={scratch / f'load{count}'}"], scratch, "--only-load")
            report(f"{count} processes load", [found["load"] for found in loads], size)
            print(f"    all together at most {together / size:.2f} with their libraries; one process alone "
                  f"{alone[0]['load'] / size:.2f}")
            for name, limit in (("whole files", "1e9"), ("files of parts", "0")):
                run = [*words, f"strategy.shard_checkpoint_gb={limit}", f"run_dir={scratch / f'{count}-{limit}'}"]
                first, _ = run_ranks(count, [*run, "trainer.max_steps=1"], scratch)
                report(f"{count} processes save {name}", [found["save"] for found in first], size)
                again, _ = run_ranks(count, [*run, "resume.allow=[trainer.max_steps]"], scratch)
                report(f"{count} processes resume {name}", [found["resume"] for found in again], size)


def report(name: str, peaks: list[int], size: int) -> None:
    """Prints a row."""
    print(f"{name:<40} {' '.join(f'{peak / size:5.2f}' for peak in peaks)}", flush=True)


if __name__ == "__main__":
    main()
