"""Adafactor of torch, which keeps the variance of a matrix as one row and one column."""

from __future__ import annotations

from torch import nn
from torch.optim import Adafactor, Optimizer

from fulgurite.optim import config as c
from fulgurite.optim.param_groups import build_decay_groups


def build(config: c.Adafactor, module: nn.Module) -> Optimizer:
    """Builds the optimizer over the module's trained parameters."""
    groups = build_decay_groups(module, config)
    return Adafactor(groups, lr=config.lr or 0.0, beta2_decay=config.beta2_decay, d=config.clip_threshold)
