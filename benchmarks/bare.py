"""The floor: a bare PyTorch loop with transformers' own loss, on padded batches in file order. What a peer does at
least.

`python -m benchmarks.bare METHOD PRECISION DATA EXAMPLES BATCH MICRO [LENGTH]` prints one JSON line an optimizer step.
LENGTH cuts and pads every example to exactly so many tokens (for the memory table).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fulgurite.data.example import Message
from fulgurite.data.template import load_template
from fulgurite.model import config, smollm2


def main(method: str, precision: str, data: str, examples: int, batch: int, micro: int, length: int = 0) -> None:
    """Train once over the first `examples` records of an alpaca file."""
    loaded = smollm2.build(config.SmolLM2(), torch.float32)
    template = load_template(None, loaded.tokenizer)
    rows = []
    for record in json.loads(Path(data).read_text())[:examples]:
        question = record["instruction"] + ("\n" + record["input"] if record.get("input") else "")
        ids, learn = template.encode_chat(
            [Message("user", question), Message("assistant", record["output"])], "answers",
        )
        if length:
            ids, learn = (ids * (length // len(ids) + 1))[:length], [True] * length
        rows.append((torch.tensor(ids), torch.tensor([i if on else -100 for i, on in zip(ids, learn, strict=True)])))
    model = loaded.model
    if method == "lora":
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(
            model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
        )
    rate = 5e-4 if method == "lora" else 1e-4
    for row in train(model, rows, rate, batch, micro, mixed=precision == "bf16"):
        print(json.dumps(row), flush=True)


def train(model: Any, rows: list[tuple[Tensor, Tensor]], rate: float, batch: int, micro: int, *, mixed: bool,
    fused: bool = False) -> Iterator[dict[str, float]]:
    """Trains once over rows of (ids, labels) on the model's device; yields the numbers of each optimizer step."""
    model.train()
    device = model.device
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate, fused=fused)
    tokens = padded = 0
    for step, start in enumerate(range(0, len(rows), batch), 1):
        cuts = range(start, min(start + batch, len(rows)), micro)
        for cut in cuts:
            part = rows[cut : min(cut + micro, start + batch)]
            longest = max(len(ids) for ids, _ in part)
            ids = torch.stack([functional.pad(i, (0, longest - len(i)), value=0) for i, _ in part])
            labels = torch.stack([functional.pad(t, (0, longest - len(t)), value=-100) for _, t in part])
            mask = torch.stack([functional.pad(torch.ones_like(i), (0, longest - len(i))) for i, _ in part])
            with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
                loss = model(
                    input_ids=ids.to(device), attention_mask=mask.to(device), labels=labels.to(device)
                ).loss
            (loss / len(cuts)).backward()
            tokens += int((labels[:, 1:] != -100).sum())
            padded += int((mask == 0).sum())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        read = sum(len(ids) for ids, _ in rows[: start + batch])
        yield {"step": step, "tokens": tokens, "padding": padded / (padded + read), "loss": float(loss.detach())}


if __name__ == "__main__":
    main(*sys.argv[1:4], *(int(word) for word in sys.argv[4:]))
