"""APOLLO against its algorithm written out, and its random projections."""

from __future__ import annotations

import torch
from tests.optim.projections import LR, MATRICES, WD, compute_adam, record_paths

from fulgurite.optim.apollo import projection


def test_apollo_scales_each_channel_of_the_whole_gradient() -> None:
    rank, gap, scale = 8, 3, 4.0
    weights, gradients = record_paths(
        "apollo", f"optim.rank={rank}", f"optim.update_proj_gap={gap}", f"optim.scale={scale}"
    )
    limited = 0
    for name, path in weights.items():
        w, mean, variance, last = path[0].clone(), torch.zeros(()), torch.zeros(()), None
        for t, g in enumerate(gradients[name], 1):
            w = w * (1 - LR * (WD if name in MATRICES else 0.0))
            if name in MATRICES:
                g_MN = g if g.shape[0] < g.shape[1] else g.T  # the paper's m <= n
                draw_RM = projection(g_MN.shape[0], rank, visit=(t - 1) // gap, number=MATRICES.index(name)).T
                low_RN = draw_RM @ g_MN
                mean, variance, adam_RN = compute_adam(mean, variance, low_RN, t, True)
                step_MN = g_MN * torch.stack([adam_RN[:, j].norm() / low_RN[:, j].norm() for j in range(g_MN.shape[1])])
                if last is not None and step_MN.norm() > 1.01 * last:
                    step_MN, limited = step_MN / step_MN.norm() * 1.01 * last, limited + 1
                last = step_MN.norm()
                update = scale**0.5 * (step_MN if g.shape[0] < g.shape[1] else step_MN.T)
            else:
                mean, variance, update = compute_adam(mean, variance, g, t, True)
            w = w - LR * update
            torch.testing.assert_close(path[t], w, rtol=1e-4, atol=2e-6)
    assert 0 < limited < 12  # of three matrices' four later steps, some were held back


def test_a_projection_keeps_lengths_on_average_and_is_a_function_of_its_arguments() -> None:
    draw = projection(300, 64, visit=2, number=5)
    assert torch.equal(draw, projection(300, 64, visit=2, number=5))
    assert not torch.equal(draw, projection(300, 64, visit=3, number=5))
    assert not torch.equal(draw, projection(300, 64, visit=2, number=6))
    ones = torch.ones(300) / 300**0.5
    # the squared length of a projected unit vector is chi-squared over its degrees: 64 / 64, deviation (2 / 64) ** 0.5
    assert abs(float((ones @ draw).square().sum()) - 1) < 3 * (2 / 64) ** 0.5
