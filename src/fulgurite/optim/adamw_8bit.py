"""AdamW with its moments in 8 bits, from bitsandbytes (Dettmers et al., https://arxiv.org/abs/2110.02861).

Measured with bitsandbytes 0.50: the 8-bit forms run on a CPU, on fp32 and bf16 weights, without paging.
"""

from __future__ import annotations

import logging

from torch import nn
from torch.optim import Optimizer

from fulgurite.language.message import message
from fulgurite.optim import config as c
from fulgurite.optim.param_groups import build_decay_groups, get_trained_parameters
from fulgurite.text.console import say


def build(config: c.AdamW8bit, module: nn.Module, paged: bool = False) -> Optimizer:
    """Builds the optimizer over the module's trained parameters."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns of a GPU kernel that a CPU does not need
    from bitsandbytes import optim

    kind = optim.PagedAdamW8bit if paged else optim.AdamW8bit
    first, second = config.betas
    optimizer: Optimizer = kind(
        build_decay_groups(module, config), lr=config.lr or 0.0, betas=(first, second), eps=config.eps
    )
    return optimizer


def build_paged(config: c.PagedAdamW8bit, module: nn.Module) -> Optimizer:
    """Builds it with state that may be paged out of the GPU. On a CPU, prints that nothing is paged."""
    on_cpu = all(p.device.type == "cpu" for p in get_trained_parameters(module))
    if on_cpu:
        say(message("optim=paged_adamw_8bit pages nothing on a CPU: the run uses optim=adamw_8bit."))
    return build(config, module, paged=not on_cpu)
