"""Rollout tokens a second, ours beside a bare `model.generate` of the same policy; interleaved, medians.

    python -m benchmarks.rollout --answers 16 --tokens 48 --repeats 5

Both ask the same model object, under the same autocast and KV cache, the same questions of the guide, draw from all
tokens at
temperature 1, and know of an end token that never comes: each answer has exactly `--tokens` tokens. Ours also notes the
log-probability of every token drawn, which a policy gradient needs, draws from a seed of its own, and puts back modes
and random state.
The policy is the bundled model as the run's method makes it, `lora` with its adapter in place. Where vLLM is installed
it draws too
(`stage.engine=vllm`), each time from weights that it is handed anew.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import time
from collections.abc import Callable
from importlib.util import find_spec

import torch

import fulgurite as fg
from fulgurite.data.build import GUIDE
from fulgurite.data.example import Message
from fulgurite.data.template import load_template
from fulgurite.precision.policy import Dtypes
from fulgurite.stage.rollout import TransformersRollouts
from fulgurite.stage.vllm_rollout import VllmRollouts

NEVER = 1 << 30
"""An end token that no model draws, being beyond every vocabulary."""


def questions(count: int) -> list[str]:
    """The first questions of the guide, again from the start where there are too few."""
    lines = (GUIDE / "train.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(lines[n % len(lines)])["messages"][0]["content"] for n in range(count)]


def ways(method: str, precision: str, answers: int, tokens: int) -> tuple[Dtypes, dict[str, Callable[[], int]]]:
    """The compute type, and both ways to draw; each returns how many tokens it drew."""
    experiment = fg.experiment(f"precision={precision}", f"method={method}", "trainer.accelerator=cpu")
    dtypes, loaded, model = experiment.dtypes, experiment.assembled.loaded, experiment.module.model.eval()
    template = load_template(None, loaded.tokenizer)
    prompts = [template.encode_prompt([Message("user", q)]) for q in questions(answers)]
    pad, longest = int(loaded.tokenizer.pad_token_id), max(map(len, prompts))

    def context() -> contextlib.AbstractContextManager[None]:
        return dtypes.autocast("cpu")

    engine = TransformersRollouts(
        model, [NEVER], pad, max_new_tokens=tokens, temperature=1.0, batch=answers, context=context,
    )

    def ours() -> int:
        return sum(map(len, engine.generate(prompts, [1, 1]).tokens))

    other = VllmRollouts(
        model, [], max_new_tokens=tokens, temperature=1.0, batch=answers, longest=longest + tokens,
        dtype=dtypes.compute,
    )

    def vllm() -> int:
        return sum(map(len, other.generate(prompts, [1, 1]).tokens))

    def bare() -> int:
        ids = torch.tensor([[pad] * (longest - len(p)) + p for p in prompts])
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
        torch.manual_seed(1)
        with torch.no_grad(), context():
            out = model.generate(
                input_ids=ids, attention_mask=mask, do_sample=True, temperature=1.0, top_k=0, top_p=1.0, use_cache=True,
                max_new_tokens=tokens, eos_token_id=NEVER, pad_token_id=pad,
            )
        return int(out[:, longest:].numel())

    return dtypes, {"ours": ours, "bare generate": bare} | (
        {"ours, vLLM": vllm} if find_spec("vllm") is not None else {}
    )


def main() -> None:
    """Print a line a repeat, and one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=48, help="of each answer")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--methods", nargs="+", default=["lora", "full"])
    parser.add_argument("--precision", default="auto")
    asked = parser.parse_args()
    lines = []
    for method in asked.methods:
        dtypes, both = ways(method, asked.precision, asked.answers, asked.tokens)
        found: dict[str, list[float]] = {name: [] for name in both}
        for n in range(asked.repeats + 1):
            for name in both if n % 2 else reversed(both):
                began = time.perf_counter()
                drawn = both[name]()
                assert drawn == asked.answers * asked.tokens, f"{name} drew {drawn}"
                found[name].append(drawn / (time.perf_counter() - began))
            print(
                method, ", ".join(f"{name} {speeds[-1]:.0f}" for name, speeds in found.items()), "tokens/s", flush=True,
            )
        medians = {name: statistics.median(speeds[1:]) for name, speeds in found.items()}  # the first call allocates
        for name, speed in medians.items():
            gain = f"{speed / medians['bare generate']:.2f} ×" if name != "bare generate" else ""
            lines.append(f"| {method} | {dtypes.option} | {name} | {speed:.0f} | {gain} |")
    head = f"| {asked.answers} answers of {asked.tokens} tokens | | | drawn tokens/s | speed against bare generate |"
    print(f"\n{head}\n|---|---|---|---|---|")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
