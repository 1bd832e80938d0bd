"""Where a prompt that both sides of a pair share is worth a pass of its own: one DPO micro-batch, with it and without,
interleaved.

    python -m benchmarks.shared_prompt

Two pairs of random tokens through the bundled model (LoRA, bf16): the reference, the policy, and backward. Medians in
one process;
the first round of each is thrown away. `spared` is the share of all tokens that go through once in the place of twice;
if nothing else
took time, the gain would be 1 / (1 - spared).
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch
from peft import LoraConfig, get_peft_model

from fulgurite.loss.preference import sigmoid
from fulgurite.model import config, smollm2
from fulgurite.stage import shared_prefix as shared
from fulgurite.stage.log_probs import AnswerScorer
from fulgurite.stage.reference import AdapterOff

PAIRS = 2
LENGTHS = [
    (32, 224), (64, 192), (128, 128), (192, 64),
    (64, 448), (128, 384), (256, 256), (384, 128), (448, 64),
    (256, 768), (512, 512), (768, 256),
]


def batch(prompt: int, answer: int) -> dict[str, Any]:
    """Pairs of as many random tokens."""
    made = torch.Generator().manual_seed(prompt * 10_000 + answer)
    heads = torch.randint(5, 40_000, (PAIRS, prompt), generator=made)
    ids = torch.cat([heads.repeat(2, 1), torch.randint(5, 40_000, (2 * PAIRS, answer), generator=made)], 1)
    targets = torch.full_like(ids, -100)
    targets[:, prompt - 1 : -1] = ids[:, prompt:]
    return {"input_ids": ids, "targets": targets, "shared": prompt - 1}


def seconds(scorer: AnswerScorer, made: dict[str, Any]) -> float:
    """One micro-batch: reference, policy, backward."""
    began = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16):
        ratio = scorer(made) - AdapterOff(scorer)(made)
        loss = sigmoid(*ratio.chunk(2), beta=0.1).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    took = time.perf_counter() - began
    scorer.model.zero_grad()
    return took


def main() -> None:
    """Print one table, a row as soon as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    torch.manual_seed(0)
    base = smollm2.build(config.SmolLM2(), torch.bfloat16).model
    model = get_peft_model(base, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"))
    scorer = AnswerScorer(model.train(), 512)
    usual, shared.is_worth_it = shared.is_worth_it, lambda *numbers: True
    print("| prompt | answers | spared | apart | shared | gain | taken |\n|---|---|---|---|---|---|---|", flush=True)
    for prompt, answer in LENGTHS:
        made, found = batch(prompt, answer), {True: [], False: []}
        for repeat in range(asked.repeats + 1):
            for way, times in found.items():
                scorer.shares = way
                took = seconds(scorer, made)
                times += [took] if repeat else []
        once, apart = (statistics.median(found[way]) for way in (True, False))
        spared = prompt / (2 * (prompt + answer))
        taken = "yes" if usual(2 * PAIRS, prompt + answer, prompt - 1) else "no"
        print(
            f"| {prompt} | {answer} | {spared:.0%} | {apart:.2f} s | {once:.2f} s | {apart / once:.2f} × | {taken} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
