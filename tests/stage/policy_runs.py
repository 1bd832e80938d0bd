"""Runs of grpo and ppo on the tiny model, and one of their steps by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.end_to_end.runs import rows
from torch import Tensor

from fulgurite.stage.policy import PolicyStage

COUNT = ["stage.reward=['count:e']", "stage.max_new_tokens=12", "data.val_fraction=0", "scheduler=constant"]


GRPO = ["stage=grpo", *COUNT, "trainer.global_batch_size=8"]


PPO = ["stage=ppo", *COUNT, "trainer.global_batch_size=32", "stage.minibatches=2", "stage.epochs_per_rollout=2"]


def column(folder: Path, name: str) -> list[float]:
    return [row[name] for row in rows(folder) if name in row]


def gain(folder: Path) -> float:
    """The mean reward of the last four rollouts less that of the first four."""
    found = column(folder, "train/reward")
    return sum(found[-4:]) / 4 - sum(found[:4]) / 4


def taken(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The stage's model before its first step, and the rollout it learned from."""
    kept: dict[str, Any] = {}
    step = PolicyStage.training_step

    def spy(self: PolicyStage, batch: dict[str, Any], batch_idx: int) -> Tensor:
        if not kept:
            parts = {"model": self.model, "buffer": self.buffer, "value": getattr(self, "value_head", None)}
            kept.update({name: copy.deepcopy(part) for name, part in parts.items()})
        return step(self, batch, batch_idx)

    monkeypatch.setattr(PolicyStage, "training_step", spy)
    return kept


def by_hand(kept: dict[str, Any], losses: Callable[[int, Tensor, Tensor], Tensor]) -> tuple[float, dict[str, Tensor]]:
    """The mean over all tokens of `losses(answer, log_probs, values)` and its gradient, one answer at a time."""
    model, buffer, value = kept["model"], kept["buffer"], kept["value"]
    total, tokens = torch.zeros(()), 0
    for n, length in enumerate(buffer.lengths):
        chosen = buffer.targets_NT[n, :length] >= 0
        out = model(input_ids=buffer.ids_NT[n : n + 1, :length], output_hidden_states=True)
        logp = out.logits[0].log_softmax(-1)[chosen].gather(1, buffer.targets_NT[n, :length][chosen][:, None])[:, 0]
        values = value(out.hidden_states[-1][0])[chosen][:, 0] if value is not None else torch.zeros(())
        total, tokens = total + losses(n, logp, values).sum(), tokens + int(chosen.sum())
    (total / tokens).backward()
    found = {f"model.{name}": p.grad for name, p in model.named_parameters()}
    found |= {f"value_head.{name}": p.grad for name, p in value.named_parameters()} if value is not None else {}
    return float(total.detach()) / tokens, found
