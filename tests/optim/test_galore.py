"""GaLore and APOLLO against their algorithms written out; what is too small to project goes by AdamW."""

from __future__ import annotations

import pytest
import torch
from tests.optim.nets import Wide, config
from torch import Tensor

from fulgurite.config.schema import build
from fulgurite.errors import ConfigError
from fulgurite.optim.apollo import projection

LR, WD, EPS, BETAS = 0.01, 0.1, 1e-6, (0.8, 0.95)
WORDS = (f"optim.lr={LR}", f"optim.weight_decay={WD}", f"optim.eps={EPS}", f"optim.betas=[{BETAS[0]},{BETAS[1]}]")
MATRICES = ["layers.0.weight", "layers.1.weight", "head.weight"]  # a plain module tells no head from a layer


def paths(name: str, *words: str, steps: int = 5) -> tuple[dict[str, list[Tensor]], dict[str, list[Tensor]]]:
    """The weights after each step under fixed gradients, and the gradients."""
    net = Wide()
    optimizer = build(config(name, *WORDS, *words), net)
    generator = torch.Generator().manual_seed(3)
    weights, gradients = {n: [p.detach().clone()] for n, p in net.named_parameters()}, {n: [] for n, _ in net.named_parameters()}
    base = {n: torch.randn(p.shape, generator=generator) for n, p in net.named_parameters()}
    for sign in (1, -1, 2, 2, 2)[:steps]:  # moments cancel, then grow: so APOLLO's limiter has something to hold back
        for n, p in net.named_parameters():
            p.grad = sign * base[n] + 0.3 * torch.randn(p.shape, generator=generator)
            gradients[n].append(p.grad.clone())
        optimizer.step()
        for n, p in net.named_parameters():
            weights[n].append(p.detach().clone())
    return weights, gradients


def adam(mean: Tensor, variance: Tensor, g: Tensor, t: int, whole_eps: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Adam's direction; GaLore's code, like HF's old AdamW, adds eps before the bias is corrected."""
    b1, b2 = BETAS
    mean, variance = b1 * mean + (1 - b1) * g, b2 * variance + (1 - b2) * g * g
    if whole_eps:
        return mean, variance, (mean / (1 - b1**t)) / ((variance / (1 - b2**t)).sqrt() + EPS)
    return mean, variance, mean / (variance.sqrt() + EPS) * (1 - b2**t) ** 0.5 / (1 - b1**t)


def test_galore_projects_by_singular_vectors_that_it_renews() -> None:
    rank, gap, scale = 8, 3, 0.5
    weights, gradients = paths("galore", f"optim.rank={rank}", f"optim.update_proj_gap={gap}", f"optim.scale={scale}")
    for name, path in weights.items():
        w, zero = path[0].clone(), torch.zeros(())
        mean, variance, basis = zero, zero, zero
        for t, g in enumerate(gradients[name], 1):
            decay = WD if name in MATRICES else 0.0
            if name in MATRICES:
                tall = g.shape[0] >= g.shape[1]
                if t == 1 or t % gap == 0:
                    u, _, vh = torch.linalg.svd(g, full_matrices=False)
                    basis = vh[:rank] if tall else u[:, :rank]
                mean, variance, low = adam(mean, variance, g @ basis.T if tall else basis.T @ g, t, False)
                update = scale * (low @ basis if tall else basis @ low)
            else:
                mean, variance, update = adam(mean, variance, g, t, False)
            w = (w - LR * update) * (1 - LR * decay)
            torch.testing.assert_close(path[t], w, rtol=1e-4, atol=2e-6)


def test_apollo_scales_each_channel_of_the_whole_gradient() -> None:
    rank, gap, scale = 8, 3, 4.0
    weights, gradients = paths("apollo", f"optim.rank={rank}", f"optim.update_proj_gap={gap}", f"optim.scale={scale}")
    limited = 0
    for name, path in weights.items():
        w, mean, variance, last = path[0].clone(), torch.zeros(()), torch.zeros(()), None
        for t, g in enumerate(gradients[name], 1):
            w = w * (1 - LR * (WD if name in MATRICES else 0.0))
            if name in MATRICES:
                g_MN = g if g.shape[0] < g.shape[1] else g.T  # the paper's m <= n
                draw_RM = projection(g_MN.shape[0], rank, visit=(t - 1) // gap, number=MATRICES.index(name)).T
                low_RN = draw_RM @ g_MN
                mean, variance, adam_RN = adam(mean, variance, low_RN, t, True)
                step_MN = g_MN * torch.stack([adam_RN[:, j].norm() / low_RN[:, j].norm() for j in range(g_MN.shape[1])])
                if last is not None and step_MN.norm() > 1.01 * last:
                    step_MN, limited = step_MN / step_MN.norm() * 1.01 * last, limited + 1
                last = step_MN.norm()
                update = scale**0.5 * (step_MN if g.shape[0] < g.shape[1] else step_MN.T)
            else:
                mean, variance, update = adam(mean, variance, g, t, True)
            w = w - LR * update
            torch.testing.assert_close(path[t], w, rtol=1e-4, atol=2e-6)
    assert 0 < limited < 12  # of three matrices' four later steps, some were held back


def test_a_projection_keeps_lengths_on_average_and_is_a_function_of_its_arguments() -> None:
    draw = projection(300, 64, visit=2, number=5)
    assert torch.equal(draw, projection(300, 64, visit=2, number=5))
    assert not torch.equal(draw, projection(300, 64, visit=3, number=5))
    assert not torch.equal(draw, projection(300, 64, visit=2, number=6))
    ones = torch.ones(300) / 300**0.5
    # the squared length of a projected unit vector is chi-squared over its degrees: 64 / 64 with deviation (2 / 64) ** 0.5
    assert abs(float((ones @ draw).square().sum()) - 1) < 3 * (2 / 64) ** 0.5


@pytest.mark.parametrize("name", ["galore", "apollo"])
def test_a_rank_above_every_matrix_is_refused_with_the_width(name: str) -> None:
    with pytest.raises(ConfigError, match=r"optim\.rank=64 leaves nothing to project: .* at most 64; take a smaller optim\.rank"):
        build(config(name, "optim.rank=64"), Wide())
