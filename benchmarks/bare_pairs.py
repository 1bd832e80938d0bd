"""The floor of preference training: DPO with LoRA in a bare PyTorch loop, transformers and peft. What a peer does at
least.

Chosen and rejected answers are padded together in file order, whole logits are made of both, once with the adapter and
once, without
gradients, with it disabled.

`python -m benchmarks.bare_pairs PRECISION PAIRS BATCH MICRO` prints one JSON line an optimizer step. PAIRS is a JSON
file of
`{prompt: messages, chosen, rejected}`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from torch.nn import functional

from fulgurite.data.example import Message
from fulgurite.data.template import Template, load_template
from fulgurite.model import config, smollm2

BETA = 0.1


def sides(template: Template, record: dict[str, Any]) -> list[tuple[Tensor, Tensor]]:
    """Tokens and labels of the chosen and of the rejected conversation."""
    prompt = [Message(turn["role"], turn["content"]) for turn in record["prompt"]]
    found = []
    for name in ("chosen", "rejected"):
        ids, learn = template.encode_chat([*prompt, Message("assistant", record[name])], "last")
        found.append((torch.tensor(ids), torch.tensor([i if on else -100 for i, on in zip(ids, learn, strict=True)])))
    return found


def log_probs(model: Any, ids_ST: Tensor, mask_ST: Tensor, labels_ST: Tensor) -> Tensor:
    """The summed log-probability of each side's answer."""
    logits_STV = model(input_ids=ids_ST, attention_mask=mask_ST).logits[:, :-1].float()
    nll_N = functional.cross_entropy(
        logits_STV.flatten(0, 1), labels_ST[:, 1:].flatten(), ignore_index=-100, reduction="none",
    )
    return -nll_N.view(len(ids_ST), -1).sum(1)


def main(precision: str, data: str, batch: int, micro: int) -> None:
    """Train once over the file."""
    loaded = smollm2.build(config.SmolLM2(), torch.float32)
    template = load_template(None, loaded.tokenizer)
    rows = [sides(template, record) for record in json.loads(Path(data).read_text())]
    model = get_peft_model(
        loaded.model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
    ).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5)
    tokens = padded = read = 0
    for step, start in enumerate(range(0, len(rows), batch), 1):
        whole, mean = rows[start : start + batch], 0.0
        for cut in range(0, len(whole), micro):
            pairs = whole[cut : cut + micro]
            part = [pair[0] for pair in pairs] + [pair[1] for pair in pairs]
            longest = max(len(ids) for ids, _ in part)
            ids = torch.stack([functional.pad(i, (0, longest - len(i)), value=0) for i, _ in part])
            labels = torch.stack([functional.pad(t, (0, longest - len(t)), value=-100) for _, t in part])
            mask = torch.stack([functional.pad(torch.ones_like(i), (0, longest - len(i))) for i, _ in part])
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                with torch.no_grad(), model.disable_adapter():
                    reference = log_probs(model, ids, mask, labels)
                chosen, rejected = (log_probs(model, ids, mask, labels) - reference).chunk(2)
            loss = -functional.logsigmoid(BETA * (chosen - rejected)).sum() / len(whole)
            loss.backward()
            mean += float(loss.detach())
            tokens += int((labels[:, 1:] != -100).sum())
            padded += int((mask == 0).sum())
            read += int(mask.sum())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        print(
            json.dumps({"step": step, "tokens": tokens, "padding": padded / (padded + read), "loss": mean}), flush=True,
        )


if __name__ == "__main__":
    main(*sys.argv[1:3], *(int(word) for word in sys.argv[3:]))
