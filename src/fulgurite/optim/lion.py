"""Lion from pytorch-optimizer (Chen et al., https://arxiv.org/abs/2302.06675)."""

from __future__ import annotations

from pytorch_optimizer import Lion
from torch import nn
from torch.optim import Optimizer

from fulgurite.optim import config as c
from fulgurite.optim.param_groups import build_decay_groups


def build(config: c.Lion, module: nn.Module) -> Optimizer:
    """Builds the optimizer over the module's trained parameters."""
    first, second = config.betas
    optimizer: Optimizer = Lion(build_decay_groups(module, config), lr=config.lr or 0.0, betas=(first, second))
    return optimizer
