"""Rollout tokens a second, ours beside a bare `model.generate`, on the bundled model; interleaved, one line a repeat, then medians.

    python -m benchmarks.rollout --answers 16 --tokens 48 --repeats 3

Both draw the same number of answers to the same questions of the guide with the same KV cache, temperature and compute type. Ours
also notes the log-probability of every token drawn, and draws from a seed of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import time
from collections.abc import Callable

import torch

from fulgurite.compose import compose
from fulgurite.data.records import Message
from fulgurite.data.source import GUIDE
from fulgurite.data.template import resolve
from fulgurite.model.load import Loaded
from fulgurite.precision.build import build as settle
from fulgurite.schema import build
from fulgurite.stage.rollout import TransformersRollouts


def questions(count: int) -> list[str]:
    """The first questions of the guide, again from the start where there are too few."""
    lines = (GUIDE / "train.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(lines[n % len(lines)])["messages"][0]["content"] for n in range(count)]


def main() -> None:
    """Print a line a repeat, and the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answers", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=48, help="of each answer; none ends earlier, so that both do the same work")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--precision", default="auto")
    asked = parser.parse_args()
    run = compose([f"precision={asked.precision}", "method=full"]).run
    dtypes = settle(run.precision, "cpu")
    loaded: Loaded = build(run.model, dtypes.frozen)
    model, template = loaded.model.eval(), resolve(None, loaded.tokenizer)
    prompts = [template.encode_prompt([Message("user", q)]) for q in questions(asked.answers)]
    pad = int(loaded.tokenizer.pad_token_id)

    def context() -> contextlib.AbstractContextManager[None]:
        return torch.autocast("cpu", dtypes.compute, enabled=dtypes.lightning.endswith("mixed"))

    engine = TransformersRollouts(model, [-1], pad, max_new_tokens=asked.tokens, temperature=1.0, batch=asked.answers, context=context)

    def ours() -> int:
        return sum(map(len, engine.generate(prompts, [1, 1]).tokens))

    def bare() -> int:
        longest = max(map(len, prompts))
        ids = torch.tensor([[pad] * (longest - len(p)) + p for p in prompts])
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
        torch.manual_seed(1)
        with torch.no_grad(), context():
            out = model.generate(
                input_ids=ids, attention_mask=mask, do_sample=True, temperature=1.0, top_k=0, top_p=1.0, use_cache=True,
                max_new_tokens=asked.tokens, min_new_tokens=asked.tokens, pad_token_id=pad,
            )
        return int(out[:, longest:].numel())

    found: dict[str, list[float]] = {"ours": [], "bare generate": []}
    ways: dict[str, Callable[[], int]] = {"ours": ours, "bare generate": bare}
    bare()  # the first call allocates
    for n in range(asked.repeats):
        for name in ways if n % 2 == 0 else reversed(ways):
            began = time.perf_counter()
            tokens = ways[name]()
            found[name].append(tokens / (time.perf_counter() - began))
        print(", ".join(f"{name} {speeds[-1]:.0f}" for name, speeds in found.items()), "tokens/s", flush=True)
    medians = {name: statistics.median(speeds) for name, speeds in found.items()}
    print(f"\n| {asked.answers} answers of {asked.tokens} tokens, {dtypes.option} | tokens/s |\n|---|---|")
    print("\n".join(f"| {name} | {speed:.0f} |" for name, speed in medians.items()))
    print(f"ours / bare = {medians['ours'] / medians['bare generate']:.2f}")


if __name__ == "__main__":
    main()
