"""AdamW's steps against its paper's formula."""

from __future__ import annotations

import torch
from tests.optim.formula_net import record_steps


def test_adamw_equals_the_papers_formula() -> None:
    lr, wd, eps, (b1, b2) = 0.01, 0.1, 1e-6, (0.8, 0.95)
    knobs = [f"optim.lr={lr}", f"optim.weight_decay={wd}", f"optim.eps={eps}", f"optim.betas=[{b1},{b2}]"]
    weights, gradients = record_steps("optim=adamw", *knobs)
    for name, path in weights.items():
        w, m, v = path[0].clone(), torch.zeros_like(path[0]), torch.zeros_like(path[0])
        decay = wd if name == "linear.weight" else 0.0  # never norms, biases or embeddings
        for t, g in enumerate(gradients[name], 1):
            w = w - lr * decay * w
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
            w = w - lr * (m / (1 - b1**t)) / ((v / (1 - b2**t)).sqrt() + eps)
            torch.testing.assert_close(path[t], w, rtol=1e-5, atol=1e-7)
