"""Stochastic gradient descent with momentum, torch's fused form."""

from __future__ import annotations

from torch import nn
from torch.optim import SGD, Optimizer

from fulgurite.optim import config as c
from fulgurite.optim.groups import clippable, decay_groups


def build(config: c.Sgd, module: nn.Module) -> Optimizer:
    """The optimizer over the module's trained parameters."""
    groups = decay_groups(module, config)
    return clippable(SGD(groups, lr=config.lr or 0.0, momentum=config.momentum, fused=True))
