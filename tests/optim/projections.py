"""What the tests of GaLore and APOLLO share: weights under fixed gradients, and Adam's direction."""

from __future__ import annotations

import torch
from tests.optim.nets import Wide, config
from torch import Tensor

from fulgurite.config.schema import build

LR, WD, EPS, BETAS = 0.01, 0.1, 1e-6, (0.8, 0.95)


WORDS = (f"optim.lr={LR}", f"optim.weight_decay={WD}", f"optim.eps={EPS}", f"optim.betas=[{BETAS[0]},{BETAS[1]}]")


MATRICES = ["layers.0.weight", "layers.1.weight", "head.weight"]  # a plain module tells no head from a layer


def record_paths(name: str, *words: str, steps: int = 5) -> tuple[dict[str, list[Tensor]], dict[str, list[Tensor]]]:
    """The weights after each step under fixed gradients, and the gradients."""
    net = Wide()
    optimizer = build(config(name, *WORDS, *words), net)
    generator = torch.Generator().manual_seed(3)
    weights, gradients = (
        {n: [p.detach().clone()] for n, p in net.named_parameters()},
        {n: [] for n, _ in net.named_parameters()},
    )
    base = {n: torch.randn(p.shape, generator=generator) for n, p in net.named_parameters()}
    for sign in (1, -1, 2, 2, 2)[:steps]:  # moments cancel, then grow: so APOLLO's limiter has something to hold back
        for n, p in net.named_parameters():
            p.grad = sign * base[n] + 0.3 * torch.randn(p.shape, generator=generator)
            gradients[n].append(p.grad.clone())
        optimizer.step()
        for n, p in net.named_parameters():
            weights[n].append(p.detach().clone())
    return weights, gradients


def compute_adam(mean: Tensor, variance: Tensor, g: Tensor, t: int, whole_eps: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Adam's direction; GaLore's code, like HF's old AdamW, adds eps before the bias is corrected."""
    b1, b2 = BETAS
    mean, variance = b1 * mean + (1 - b1) * g, b2 * variance + (1 - b2) * g * g
    if whole_eps:
        return mean, variance, (mean / (1 - b1**t)) / ((variance / (1 - b2**t)).sqrt() + EPS)
    return mean, variance, mean / (variance.sqrt() + EPS) * (1 - b2**t) ** 0.5 / (1 - b1**t)
