"""Stochastic gradient descent with momentum, torch's plain form.

Not its fused form: on a CPU that reads bf16 momentum that was never written (torch 2.13: steps of up to 2e30,
measured), and it fails where a parameter gets its first gradient later than its neighbours.
"""

from __future__ import annotations

from torch import nn
from torch.optim import SGD, Optimizer

from fulgurite.optim import config as c
from fulgurite.optim.param_groups import build_decay_groups


def build(config: c.Sgd, module: nn.Module) -> Optimizer:
    """The optimizer over the module's trained parameters."""
    return SGD(build_decay_groups(module, config), lr=config.lr or 0.0, momentum=config.momentum)
