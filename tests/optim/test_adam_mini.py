"""Adam-mini's steps against its paper's formula, with one variance a row."""

from __future__ import annotations

import torch
from tests.optim.formula_net import record_steps


def test_adam_mini_keeps_one_variance_a_row() -> None:
    lr, wd, eps, (b1, b2) = 0.01, 0.1, 1e-6, (0.8, 0.95)
    knobs = [f"optim.lr={lr}", f"optim.weight_decay={wd}", f"optim.eps={eps}", f"optim.betas=[{b1},{b2}]"]
    weights, gradients = record_steps("optim=adam_mini", *knobs)
    for name, path in weights.items():
        w, m, v = path[0].clone(), torch.zeros_like(path[0]), 0.0
        for t, g in enumerate(gradients[name], 1):
            w = w - lr * (wd if name == "linear.weight" else 0.0) * w
            squares = (g * g).mean(dim=1)[:, None] if g.ndim == 2 else (g * g).mean()
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * squares
            w = w - lr * (m / (1 - b1**t)) / ((v / (1 - b2**t)) ** 0.5 + eps)
            torch.testing.assert_close(path[t], w, rtol=1e-5, atol=1e-7)
