"""BAdam from its paper (Luo et al., https://arxiv.org/abs/2404.02827): torch's fused AdamW on one block at a time.

Our own, because the authors' package switches `requires_grad`, which checkpoints depend on, and prints. One deviation:
theirs keeps an fp32 copy of the active block of half-precision weights; here precision=bf16 has fp32 weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Optimizer

from fulgurite.optim import config as c
from fulgurite.optim.block_schedule import Order, build_blocks, get_active_block
from fulgurite.optim.param_groups import build_decay_groups
from fulgurite.optim.torch_internals import unscale_outside


class BAdam(AdamW):
    """AdamW on one block at a time. The count of steps is in the groups, so that it is saved; each visit of a block
    begins with empty state."""

    def __init__(
        self, groups: list[dict[str, Any]], blocks: list[list[nn.Parameter]], every: int, order: Order, **knobs: Any
    ) -> None:
        super().__init__(groups, fused=True, **knobs)
        self.blocks, self.every, self.order = blocks, every, order
        for group in self.param_groups:
            group.setdefault("taken", 0)

    def resting(self, step: int) -> list[nn.Parameter]:
        """Returns the parameters of all blocks but that of the next step.

        Counts the steps taken, not the run's `step`: a loss scaler skips some steps, and both must mean the same block.
        """
        active = self._active()
        return [p for number, block in enumerate(self.blocks) if number != active for p in block]

    def _active(self) -> int:
        return get_active_block(self.param_groups[0]["taken"], self.every, len(self.blocks), self.order)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Updates the active block with AdamW; drops the gradients of the others, if there are any."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        taken = self.param_groups[0]["taken"]
        # A new visit: the block's moments are from another point of training, and dropping them is what saves the
        # memory.
        if taken % self.every == 0:
            self.state.clear()
        for parameter in self.resting(taken):
            # Without a gradient AdamW skips a parameter, its decay included.
            parameter.grad = None
        super().step()
        for group in self.param_groups:
            # In every group, because each of them is saved.
            group["taken"] = taken + 1
        return loss


def build(config: c.Badam, module: nn.Module) -> Optimizer:
    """Builds the optimizer over the module's trained parameters, in blocks."""
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    blocks = [
        [trained[name] for name in block] for block in build_blocks({name: p.ndim for name, p in trained.items()})
    ]
    first, second = config.betas
    knobs = {"lr": config.lr or 0.0, "betas": (first, second), "eps": config.eps}
    return unscale_outside(
        BAdam(build_decay_groups(module, config), blocks, config.switch_every, config.switch_mode, **knobs)
    )
