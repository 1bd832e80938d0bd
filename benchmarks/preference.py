"""A DPO step with LoRA on eight real pairs: ours beside a bare loop of two forward passes, and whether a shared prompt pays.

    python -m benchmarks.preference --data pairs.json --pairs 24

Each cell is a process of its own, as in benchmarks/language.py: `ours` is `fulgurite train`; `bare loop` pads both sides and asks
transformers for all logits, once with the adapter and once without; `apart` is that loop with logits at answers alone; `shared` is `apart`
with prompt, chosen and rejected in one row, so that the prompt goes through the model once: a mask keeps the answers apart.
Speeds are answer tokens a second. `--equal` compares the gradients of `apart` and `shared` in float32.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.language import HERE, Cell, measured
from fulgurite.data.config import File, Format
from fulgurite.data.records import Example
from fulgurite.data.source import Source
from fulgurite.data.template import resolve
from fulgurite.loss.language import log_probs
from fulgurite.loss.preference import sigmoid
from fulgurite.model import config, smollm2

USUAL = HERE.parent / "shared" / "data" / "dpo_en_demo.json"
BATCH, MICRO, LONGEST = 8, 2, 512
Pair = tuple[list[int], list[int], list[int]]
"""The tokens of a prompt, of its chosen answer, and of its rejected one."""


def pairs_of(data: Path, template: Any, count: int) -> list[tuple[Pair, dict[str, Any]]]:
    """The first pairs of which both sides fit, and their records."""
    source = Source(File(path=[str(data)]), "dpo", [data], [], Format.preference, {})
    found: list[tuple[Pair, dict[str, Any]]] = []
    for example in source.examples():
        assert isinstance(example, Example)
        assert example.messages is not None
        assert example.rejected is not None
        sides = [template.encode_chat(messages, "last") for messages in (example.messages, example.rejected)]
        starts = [learn.index(True) for _, learn in sides]
        ends = [len(learn) - learn[::-1].index(True) for _, learn in sides]
        if max(len(ids) for ids, _ in sides) <= LONGEST and sides[0][0][: starts[0]] == sides[1][0][: starts[1]]:
            (chosen, _), (rejected, _) = sides
            record = {
                "prompt": [{"role": m.role, "content": m.content} for m in example.messages[:-1]],
                "chosen": example.messages[-1].content, "rejected": example.rejected[-1].content,
            }
            found.append(((chosen[: starts[0]], chosen[starts[0] : ends[0]], rejected[starts[1] : ends[1]]), record))
    return found[:count]


def padded(rows: list[list[int]]) -> Tensor:
    """[B, T], zeros behind."""
    longest = max(map(len, rows))
    return torch.tensor([row + [0] * (longest - len(row)) for row in rows])


def apart(model: Any, pairs: list[Pair], whole: bool) -> tuple[Tensor, Tensor]:
    """logp of the chosen and of the rejected answers, [B] each; `whole` makes the logits of all positions, as a bare loop does."""
    rows = [(p, c) for p, c, _ in pairs] + [(p, r) for p, _, r in pairs]
    ids_ST = padded([p + a for p, a in rows])
    mask_ST = padded([[1] * (len(p) + len(a)) for p, a in rows])
    targets_ST = torch.full_like(ids_ST, -100)
    for i, (p, a) in enumerate(rows):
        targets_ST[i, len(p) - 1 : len(p) + len(a) - 1] = torch.tensor(a)
    if whole:
        logits_STV = model(input_ids=ids_ST, attention_mask=mask_ST).logits
        nll_ST = functional.cross_entropy(logits_STV.float().flatten(0, 1), targets_ST.flatten(), ignore_index=-100, reduction="none")
        return (-nll_ST.view_as(ids_ST).sum(1)).chunk(2)  # type: ignore[return-value]
    hidden_STD = model.get_base_model().get_decoder()(input_ids=ids_ST, use_cache=False).last_hidden_state
    return summed(model, hidden_STD, targets_ST).chunk(2)  # type: ignore[return-value]


def shared(model: Any, pairs: list[Pair]) -> tuple[Tensor, Tensor]:
    """The same from one row a pair: prompt, chosen, rejected. Rejected tokens see the prompt and themselves."""
    ids_BT = padded([p + c + r for p, c, r in pairs])
    size = ids_BT.shape[1]
    seen_B1TT = torch.ones(size, size, dtype=torch.bool).tril().repeat(len(pairs), 1, 1, 1)
    positions_BT = torch.zeros_like(ids_BT)
    first_BT, second_BT = torch.full_like(ids_BT, -100), torch.full_like(ids_BT, -100)
    lasts = []
    for i, (p, c, r) in enumerate(pairs):
        middle, end = len(p) + len(c), len(p) + len(c) + len(r)
        seen_B1TT[i, 0, middle:end, len(p) : middle] = False
        positions_BT[i, :end] = torch.tensor([*range(middle), *range(len(p), len(p) + len(r))])
        first_BT[i, len(p) - 1 : middle - 1] = torch.tensor(c)
        second_BT[i, middle : end - 1] = torch.tensor(r[1:])
        lasts.append((len(p) - 1, r[0]))
    mask_B1TT = torch.zeros(seen_B1TT.shape, dtype=torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32)
    mask_B1TT.masked_fill_(~seen_B1TT, torch.finfo(mask_B1TT.dtype).min)
    decoder = model.get_base_model().get_decoder()
    hidden_BTD = decoder(input_ids=ids_BT, attention_mask=mask_B1TT, position_ids=positions_BT, use_cache=False).last_hidden_state
    chosen_B, rejected_B = summed(model, hidden_BTD, first_BT), summed(model, hidden_BTD, second_BT)
    ends_BD = torch.stack([hidden_BTD[i, at] for i, (at, _) in enumerate(lasts)])  # the prompt's end predicts both first tokens
    head = model.get_base_model().get_output_embeddings().weight
    return chosen_B, rejected_B + log_probs(ends_BD, head, torch.tensor([token for _, token in lasts]), bias_V=None, chunk=256)


def summed(model: Any, hidden_BTD: Tensor, targets_BT: Tensor) -> Tensor:
    """logp_B of the targets."""
    learned_BT = targets_BT != -100
    head = model.get_base_model().get_output_embeddings().weight
    logp_N = log_probs(hidden_BTD[learned_BT], head, targets_BT[learned_BT], bias_V=None, chunk=256)
    return torch.zeros(targets_BT.shape).masked_scatter(learned_BT, logp_N.float()).sum(1)


def made(dtype: torch.dtype) -> tuple[Any, Any]:
    """The bundled model under LoRA as ours has it, and its template."""
    from peft import LoraConfig, get_peft_model

    loaded = smollm2.build(config.SmolLM2(), dtype)
    torch.manual_seed(1)
    model = get_peft_model(
        loaded.model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"), autocast_adapter_dtype=True
    )
    return model.train(), resolve(None, loaded.tokenizer)


def loss_of(model: Any, pairs: list[Pair], way: str) -> Tensor:
    """DPO's loss, summed; the reference is the model without its adapter."""
    def ask() -> tuple[Tensor, Tensor]:
        return shared(model, pairs) if way == "shared" else apart(model, pairs, way == "bare")

    with torch.no_grad(), model.disable_adapter():
        reference = ask()
    policy = ask()
    return sigmoid(policy[0] - reference[0], policy[1] - reference[1], 0.1, 0.0).sum()


def loop(way: str, data: Path, count: int) -> None:
    """Train once over the pairs; a JSON line a step."""
    model, template = made(torch.float32 if way == "bare" else torch.bfloat16)
    pairs = [pair for pair, _ in pairs_of(data, template, count)]
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5, fused=True)
    tokens = 0
    for step, start in enumerate(range(0, len(pairs), BATCH), 1):
        batch = pairs[start : start + BATCH]
        for cut in range(0, len(batch), MICRO):
            with torch.autocast("cpu", torch.bfloat16):
                loss = loss_of(model, batch[cut : cut + MICRO], way) / len(batch)
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        tokens += sum(len(c) + len(r) for _, c, r in batch)
        print(json.dumps({"step": step, "tokens": tokens, "loss": float(loss)}), flush=True)


def equal(data: Path) -> None:
    """By how much the gradients of `apart` and `shared` differ in float32, against the largest."""
    model, template = made(torch.float32)
    pairs = [pair for pair, _ in pairs_of(data, template, MICRO)]
    for name, parameter in model.named_parameters():  # an adapter of zeros has a gradient on one side only
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    found = []
    for way in ("apart", "shared"):
        model.zero_grad()
        loss_of(model, pairs, way).backward()
        found.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    print(f"largest difference of the gradients {float((found[0] - found[1]).abs().max()):.1e}, largest {float(found[0].abs().max()):.1e}")


def ours(data: Path, count: int, folder: Path) -> Cell:
    """`fulgurite train` on the same pairs."""
    _, template = made(torch.bfloat16)
    lines = [record for _, record in pairs_of(data, template, count)]
    subset, run = folder / "pairs.json", Path(tempfile.mkdtemp(dir=folder))
    subset.write_text(json.dumps(lines))
    words = [
        "stage=dpo", "method=lora", "precision=bf16", "data=file", f"data.path={subset}", f"run_dir={run}", "trainer.epochs=1",
        "data.val_fraction=0", f"trainer.batch_size={BATCH}", f"trainer.micro_batch={MICRO}", f"data.max_length={LONGEST}",
        "stage.prompts=[]", "trainer.save_every=100000", "data.shuffle=false",
    ]
    return measured([sys.executable, "-m", "fulgurite", "train", *words], run / "metrics.jsonl")


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("FULGURITE_BENCH_PAIRS", USUAL)), help="a JSON file of pairs")
    parser.add_argument("--pairs", type=int, default=24)
    parser.add_argument("--equal", action="store_true", help="compare gradients instead")
    parser.add_argument("--loop", choices=["bare", "apart", "shared"], help="(what a cell's process is called with)")
    asked = parser.parse_args()
    if not asked.data.is_file():
        raise SystemExit(f"{asked.data} is not there; give --data <a JSON file of pairs>.")
    if asked.equal:
        return equal(asked.data)
    if asked.loop:
        return loop(asked.loop, asked.data, asked.pairs)
    with tempfile.TemporaryDirectory() as scratch:
        cells = {"ours": ours(asked.data, asked.pairs, Path(scratch))}
        for way in ("bare", "apart", "shared"):
            words = ["--loop", way, "--data", str(asked.data), "--pairs", str(asked.pairs)]
            cells[way] = measured([sys.executable, "-m", "benchmarks.preference", *words], None)
    print(f"\n| DPO, LoRA, bf16, steps of {BATCH} pairs | answer tokens/s | peak memory |\n|---|---|---|")
    for name, cell in cells.items():
        print(f"| {name} | {cell.speed:.0f} | {cell.memory:,.0f} MB |")
    return None


if __name__ == "__main__":
    main()
