"""Adam-mini from its paper (Zhang et al., https://arxiv.org/abs/2406.16793), which asks for one variance a block of
the Hessian.

Ours, because pytorch-optimizer's AdamMiniOptimizer has one variance a whole matrix, from the paper's first version,
goes by the parameters' names, and decays biases and embeddings. A deviation: the paper takes query and key by head;
here every matrix, theirs too, has one variance an output neuron (a token, in embeddings and head), which is finer.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from fulgurite.optim import config as c
from fulgurite.optim.base import ExactOptimizer
from fulgurite.optim.param_groups import build_decay_groups


class AdamMiniOptimizer(ExactOptimizer):
    """A mean for each number in the parameter's dtype, and an fp32 variance for each row of a matrix or for a whole
    vector."""

    def move(
        self, parameter: nn.Parameter, gradient: Tensor, state: dict[str, Any], group: dict[str, Any], number: int
    ) -> None:
        """One step."""
        (beta1, beta2), taken = group["betas"], state["taken"]
        rest = tuple(range(1, gradient.ndim)) if gradient.ndim > 1 else (0,)
        squares = gradient.float().square().mean(dim=rest, keepdim=True) if gradient.ndim else gradient.float().square()
        if taken == 1:
            state["mean"], state["variance"] = torch.zeros_like(parameter), torch.zeros_like(squares)
        state["mean"].lerp_(gradient, 1 - beta1)
        state["variance"].lerp_(squares, 1 - beta2)
        size = (state["variance"] / (1 - beta2**taken)).sqrt_().add_(group["eps"])
        parameter.sub_(state["mean"] / size, alpha=group["lr"] / (1 - beta1**taken))


def build(config: c.AdamMini, module: nn.Module) -> Optimizer:
    """The optimizer over the module's trained parameters."""
    first, second = config.betas
    return AdamMiniOptimizer(
        build_decay_groups(module, config), {"lr": config.lr or 0.0, "betas": (first, second), "eps": config.eps}
    )
