"""Adafactor's steps against its paper's formula."""

from __future__ import annotations

import torch
from tests.optim.formula_net import record_steps


def test_adafactor_equals_the_papers_formula() -> None:
    lr, wd, decay, threshold, floor = 0.02, 0.1, -0.7, 1.0, 1e-3
    words = [
        f"optim.lr={lr}",
        f"optim.weight_decay={wd}",
        f"optim.beta2_decay={decay}",
        f"optim.clip_threshold={threshold}",
    ]
    weights, gradients = record_steps("optim=adafactor", *words)
    for name, path in weights.items():
        w, row, column, variance = path[0].clone(), 0.0, 0.0, 0.0
        for t, g in enumerate(gradients[name], 1):
            share = t**decay  # 1 - beta2 at step t
            size = max(floor, float(w.pow(2).mean().sqrt())) * min(lr, t**-0.5)
            w = w * (1 - lr * (wd if name == "linear.weight" else 0.0))
            if g.ndim > 1:
                row = (1 - share) * row + share * g.pow(2).mean(-1, keepdim=True)
                column = (1 - share) * column + share * g.pow(2).mean(-2, keepdim=True)
                estimate = row @ column / row.mean()
            else:
                variance = (1 - share) * variance + share * g.pow(2)
                estimate = variance
            update = g / estimate.sqrt()
            w = w - size * update / max(1.0, float(update.pow(2).mean().sqrt()) / threshold)
            torch.testing.assert_close(path[t], w, rtol=1e-4, atol=1e-6)
