"""The arithmetic of clipping, by hand and against Opacus."""

from __future__ import annotations

import pytest
import torch
from opacus.optimizers import DPOptimizer
from torch import nn

from fulgurite.privacy.clipping import compute_factors, compute_norms, sum_clipped


def test_clipping_equals_the_formula_and_opacus_optimizer() -> None:
    torch.manual_seed(0)
    gradients = [torch.randn(6, 3, 4), torch.randn(6, 5) * 3]
    length = compute_norms(gradients)
    expected = torch.stack([torch.cat([g[n].flatten() for g in gradients]).norm() for n in range(6)])
    torch.testing.assert_close(length, expected)
    scale = compute_factors(length, 7.0)
    assert 0 < int((scale < 1).sum()) < 6
    weights = [nn.Parameter(torch.zeros(g.shape[1:])) for g in gradients]
    optimizer = DPOptimizer(
        torch.optim.SGD(weights, lr=1.0),
        noise_multiplier=0.0, max_grad_norm=7.0, expected_batch_size=6, loss_reduction="sum",
    )
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.grad_sample = gradient.clone()  # type: ignore[attr-defined]
    optimizer.clip_and_accumulate()
    for weight, gradient in zip(weights, gradients, strict=True):
        theirs = weight.summed_grad  # type: ignore[attr-defined]
        torch.testing.assert_close(sum_clipped(gradient, scale), theirs, rtol=1e-5, atol=1e-6)
    assert bool((compute_norms([scale[:, None] * g.flatten(1) for g in gradients]) <= 7.0 * (1 + 1e-6)).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norms_and_sums_by_hand_are_float32(dtype: torch.dtype) -> None:
    # rows (3, 4) and (0, 0) and (6, 8): lengths 5, 0 and 10, of which 10 alone is above the limit
    gradient = torch.tensor([[3.0, 4.0], [0.0, 0.0], [6.0, 8.0]], dtype=dtype)
    norms = compute_norms([gradient])
    assert (norms.tolist(), norms.dtype) == ([5.0, 0.0, 10.0], torch.float32)
    factors = compute_factors(norms, 5.0)
    assert factors.tolist() == [1.0, 1.0, 0.5]  # a row without gradient is not divided by zero
    total = sum_clipped(gradient, factors)
    assert (total.tolist(), total.dtype) == ([6.0, 8.0], torch.float32)
