"""A small model with every kind of parameter, gradients for it, and a checkpoint's way to disk and back."""

from __future__ import annotations

import functools
import json
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from fulgurite.checkpoint.tree import decode, encode
from fulgurite.config.compose import compose
from fulgurite.config.schema import Option, build


class Wide(nn.Module):
    """Tensors above and below 4096 numbers, matrices wide and tall, in blocks: embeddings, two layers, a head."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.embed = nn.Embedding(11, 64)
        self.layers = nn.ModuleList([nn.Linear(64, 80), nn.Linear(80, 64)])
        self.norm, self.head = nn.LayerNorm(64), nn.Linear(64, 11, bias=False)
        self.to(dtype)


SMALL = {"galore": ("optim.rank=8", "optim.update_proj_gap=3"), "apollo": ("optim.rank=8", "optim.update_proj_gap=3"),
    "badam": ("optim.switch_every=2",)}
"""Knobs that make a few steps on a small model meaningful."""


@functools.cache
def config(name: str, *words: str) -> Option:
    """The optimizer's config; a constant rate, and decay. Composed once: it takes longer than a few steps."""
    composed = compose(
        ["model=tiny", "method=full", "scheduler=constant", f"optim={name}", "optim.lr=0.01", "optim.weight_decay=0.1",
         *SMALL.get(name, ()), *words]
    )
    chosen: Option = composed.run.optim
    return chosen


def made(name: str, dtype: torch.dtype = torch.float32) -> tuple[Wide, Optimizer]:
    """A fresh model and its optimizer."""
    net = Wide(dtype)
    return net, build(config(name), net)


def steps(net: nn.Module, optimizer: Optimizer, first: int, last: int) -> None:
    """Optimizer steps `first` to `last` - 1, under gradients that depend on the step alone."""
    for step in range(first, last):
        generator = torch.Generator().manual_seed(step)
        for parameter in net.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
        optimizer.step()


def saved(optimizer: Optimizer) -> dict[str, Any]:
    """The state as a checkpoint gives it back: JSON and named tensors, each copied."""
    tensors: dict[str, torch.Tensor] = {}
    text = json.dumps(encode(optimizer.state_dict(), "optimizer", tensors), allow_nan=False)
    found: dict[str, Any] = decode(json.loads(text), {name: tensor.clone() for name, tensor in tensors.items()})
    return found
