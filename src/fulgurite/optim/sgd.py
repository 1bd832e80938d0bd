"""Stochastic gradient descent with momentum, torch's fused form."""

from __future__ import annotations

from torch import nn
from torch.optim import SGD

from fulgurite.optim import config as c
from fulgurite.optim.groups import decay_groups


def build(config: c.Sgd, module: nn.Module) -> SGD:
    """The optimizer over the module's trained parameters."""
    return SGD(decay_groups(module, config.weight_decay), lr=config.lr or 0.0, momentum=config.momentum, fused=True)
