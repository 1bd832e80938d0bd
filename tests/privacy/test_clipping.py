"""The arithmetic of clipping, by hand and against Opacus."""

from __future__ import annotations
import dataclasses
import warnings
from typing import Any
import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.nn import functional
from transformers import GPT2Config, GPT2LMHeadModel
from fulgurite.config.compose import compose
from fulgurite.config.schema import build
from fulgurite.errors import ConfigError, TrainingFailed
from fulgurite.loss.language import mean_nll_by_row
from fulgurite.precision.policy import build as settle
from fulgurite.privacy.clipping import compute_factors, compute_norms, sum_clipped
from fulgurite.privacy.config import DpSgd
from fulgurite.privacy.mechanism import Mechanism
from fulgurite.privacy.per_sample_gradients import RowGradients, probe
from fulgurite.stage.base import StageModule
from fulgurite.trainer.build import quiet


def test_clipping_equals_the_formula_and_opacus_optimizer() -> None:
    from opacus.optimizers import DPOptimizer

    torch.manual_seed(0)
    gradients = [torch.randn(6, 3, 4), torch.randn(6, 5) * 3]
    length = compute_norms(gradients)
    expected = torch.stack([torch.cat([g[n].flatten() for g in gradients]).norm() for n in range(6)])
    torch.testing.assert_close(length, expected)
    scale = compute_factors(length, 7.0)
    assert 0 < int((scale < 1).sum()) < 6
    weights = [nn.Parameter(torch.zeros(g.shape[1:])) for g in gradients]
    optimizer = DPOptimizer(
        torch.optim.SGD(weights, lr=1.0), noise_multiplier=0.0, max_grad_norm=7.0, expected_batch_size=6, loss_reduction="sum"
    )
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.grad_sample = gradient.clone()  # type: ignore[attr-defined]
    optimizer.clip_and_accumulate()
    for weight, gradient in zip(weights, gradients, strict=True):
        torch.testing.assert_close(sum_clipped(gradient, scale), weight.summed_grad, rtol=1e-5, atol=1e-6)  # type: ignore[attr-defined]
    assert bool((compute_norms([scale[:, None] * g.flatten(1) for g in gradients]) <= 7.0 * (1 + 1e-6)).all())
