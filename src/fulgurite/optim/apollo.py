"""APOLLO from its paper (Zhu et al., https://arxiv.org/abs/2412.05270, algorithm 1), scaled by channel; AdamW for
parameters that are not projected.

Our own, because pytorch-optimizer's APOLLO scales the projected gradient and projects it back, while the paper scales
the whole gradient, and because it keeps objects in its state and draws from the run's own random numbers.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from fulgurite.optim import config as c
from fulgurite.optim.base import ExactOptimizer, keep_dtypes
from fulgurite.optim.galore import split_projected
from fulgurite.optim.multi_optimizer import MultiOptimizer
from fulgurite.optim.torch_internals import unscale_outside

GROWTH = 1.01
"""A step's norm may exceed the last one's by this factor (the paper's norm-growth limiter)."""


class ApolloOptimizer(ExactOptimizer):
    """Keeps Adam's moments of a random projection, and scales each channel of the whole gradient as they scale the
    projected one."""

    def move(
        self, parameter: nn.Parameter, gradient: Tensor, state: dict[str, Any], group: dict[str, Any], number: int
    ) -> None:
        """Updates one parameter."""
        (beta1, beta2), taken = group["betas"], state["taken"]
        # A new projection after each `gap` steps; the moments are kept across it, as in the paper.
        draw = projection(min(gradient.shape), group["rank"], visit=(taken - 1) // group["gap"], number=number).to(
            gradient
        )
        tall = gradient.shape[0] >= gradient.shape[1]
        # Adam's moments of the gradient, projected along its shorter side.
        low = gradient @ draw if tall else draw.T @ gradient
        if taken == 1:
            state["mean"], state["variance"] = torch.zeros_like(low), torch.zeros_like(low)
        state["mean"].lerp_(low, 1 - beta1)
        state["variance"].mul_(beta2).addcmul_(low, low, value=1 - beta2)
        # Adam's step in the projection, with its bias corrections.
        adam = (
            state["mean"] / (1 - beta1**taken) / ((state["variance"] / (1 - beta2**taken)).sqrt_().add_(group["eps"]))
        )
        # Each channel of the whole gradient gets the ratio of Adam's step to the gradient in the projection.
        # A channel is a row of a tall matrix, or a column of a wide one.
        side = 1 if tall else 0
        step = gradient * (adam.norm(dim=side, keepdim=True) / (low.norm(dim=side, keepdim=True) + 1e-8))
        # The limiter compares with the norm of the last step that was taken, after its own limit.
        norm = step.float().norm()
        if "norm" in state:
            limit = GROWTH * state["norm"]
            if bool(norm > limit) and bool(limit > 0):
                step, norm = step * (limit / norm).to(step.dtype), limit
        state["norm"] = norm
        # `optim.scale` is the square of this factor, so that scale times rank decides the size of a step.
        parameter.sub_(step, alpha=group["lr"] * group["scale"] ** 0.5)


def projection(width: int, rank: int, *, visit: int, number: int) -> Tensor:
    """Draws normal numbers of variance 1/rank, [width, rank], on the CPU. They depend on the arguments alone, so they
    need not be stored.

    Every process and a resumed run draw the same numbers; the run's own random state is not changed.
    """
    # Up to a million parameters have seeds of their own within a visit.
    generator = torch.Generator().manual_seed((visit << 20) + number)
    return torch.randn(width, rank, generator=generator).div_(math.sqrt(rank))


class ApolloWithAdamW(MultiOptimizer):
    """APOLLO and AdamW as one optimizer; the stored norms stay fp32."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads each floating tensor in the dtype in which it was saved."""
        super().load_state_dict(state_dict)
        keep_dtypes(self, state_dict)


def build(config: c.Apollo, module: nn.Module) -> Optimizer:
    """Builds the optimizer over the module's trained parameters. Raises ConfigError if no matrix is wider than the
    rank."""
    projected, rest = split_projected(config, module)
    first, second = config.betas
    knobs = {"lr": config.lr or 0.0, "betas": (first, second), "eps": config.eps}
    parts: list[Optimizer] = [ApolloOptimizer(projected,
        {**knobs, "rank": config.rank, "gap": config.update_proj_gap, "scale": config.scale})]
    if rest:
        parts.append(unscale_outside(AdamW(rest, fused=True, **knobs)))  # type: ignore[arg-type]
    return ApolloWithAdamW(parts)
