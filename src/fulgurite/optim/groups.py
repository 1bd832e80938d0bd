"""Which parameters decay: matrices do; norms, biases and embeddings do not."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim import Optimizer


def decay_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups of the trained parameters, those that decay first; empty groups are left out.

    What counts as an embedding is the module's class, not its name; a tied head is its embedding and does not decay.
    """
    embeddings = {id(p) for m in module.modules() if isinstance(m, nn.Embedding) for p in m.parameters(recurse=False)}
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for parameter in module.parameters():
        if parameter.requires_grad:
            (plain if parameter.ndim < 2 or id(parameter) in embeddings else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return [g for g in groups if g["params"]]


def clippable(optimizer: Optimizer) -> Optimizer:
    """The fused optimizer, but unscaled by the loss scaler and not by itself: Lightning refuses to clip otherwise."""
    optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
    return optimizer
