"""Adam-mini from its paper (Zhang et al., https://arxiv.org/abs/2406.16793), which has one variance per block of the
Hessian.

Our own, because pytorch-optimizer's AdamMiniOptimizer has one variance per matrix (as in the paper's first version),
selects by parameter names, and decays biases and embeddings. One deviation: the paper treats query and key per head;
here every matrix has one variance per output neuron (per token in embeddings and head), which is finer.
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
    """Keeps a mean for each number, in the parameter's dtype, and an fp32 variance for each row of a matrix or for a
    whole vector."""

    def move(
        self, parameter: nn.Parameter, gradient: Tensor, state: dict[str, Any], group: dict[str, Any], number: int
    ) -> None:
        """Updates one parameter."""
        (beta1, beta2), taken = group["betas"], state["taken"]
        # All dimensions but the first: a row of a matrix is one output neuron.
        rest = tuple(range(1, gradient.ndim)) if gradient.ndim > 1 else (0,)
        # The mean of the squares in float32: bf16 would lose small rows.
        squares = gradient.float().square().mean(dim=rest, keepdim=True) if gradient.ndim else gradient.float().square()
        if taken == 1:
            state["mean"], state["variance"] = torch.zeros_like(parameter), torch.zeros_like(squares)
        state["mean"].lerp_(gradient, 1 - beta1)
        state["variance"].lerp_(squares, 1 - beta2)
        # Adam's step with its bias corrections; `size` has one number per row, broadcast over the row.
        size = (state["variance"] / (1 - beta2**taken)).sqrt_().add_(group["eps"])
        parameter.sub_(state["mean"] / size, alpha=group["lr"] / (1 - beta1**taken))


def build(config: c.AdamMini, module: nn.Module) -> Optimizer:
    """Builds the optimizer over the module's trained parameters."""
    first, second = config.betas
    return AdamMiniOptimizer(
        build_decay_groups(module, config), {"lr": config.lr or 0.0, "betas": (first, second), "eps": config.eps}
    )
