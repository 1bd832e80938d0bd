"""The arithmetic of DP-SGD on tensors (Abadi et al., https://arxiv.org/abs/1607.00133).

Shapes: B rows, ... a weight's own shape.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def compute_norms(gradients: Sequence[Tensor]) -> Tensor:
    """Returns the norm [B] of each row's gradient over all weights, whose gradients are [B, ...]."""
    parts = [g.flatten(1).float().norm(dim=1) for g in gradients]
    # The norm of the norms by weight is the norm over all weights.
    found: Tensor = torch.stack(parts, dim=1).norm(dim=1)
    return found


def compute_factors(norms_B: Tensor, limit: float) -> Tensor:
    """Returns the factor [B] of each row's gradient with which no norm is above `limit`."""
    # A norm of 0 gives a factor of 1, not a division by 0.
    return (limit / norms_B.clamp(min=torch.finfo(norms_B.dtype).tiny)).clamp(max=1.0)


def sum_clipped(gradient: Tensor, factors_B: Tensor) -> Tensor:
    """Returns the sum over rows of [B, ...] times the factors, in float32."""
    return torch.einsum("b,b...->...", factors_B, gradient.float())
