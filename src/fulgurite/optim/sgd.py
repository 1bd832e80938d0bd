"""Stochastic gradient descent with momentum, in torch's unfused form.

The fused form reads bf16 momentum that was never written on a CPU (torch 2.13: updates of up to 2e30, measured), and
fails if a parameter gets its first gradient later than others of its group.
"""

from __future__ import annotations

from torch import nn
from torch.optim import SGD, Optimizer

from fulgurite.optim import config as c
from fulgurite.optim.param_groups import build_decay_groups


def build(config: c.Sgd, module: nn.Module) -> Optimizer:
    """Builds the optimizer over the module's trained parameters."""
    return SGD(build_decay_groups(module, config), lr=config.lr or 0.0, momentum=config.momentum)
