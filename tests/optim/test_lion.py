"""Lion's steps against its paper's formula."""

from __future__ import annotations

import torch
from tests.optim.formula_net import record_steps


def test_lion_equals_the_papers_formula() -> None:
    lr, wd, (b1, b2) = 0.01, 0.3, (0.85, 0.97)
    weights, gradients = record_steps(
        "optim=lion", f"optim.lr={lr}", f"optim.weight_decay={wd}", f"optim.betas=[{b1},{b2}]"
    )
    for name, path in weights.items():
        w, m = path[0].clone(), torch.zeros_like(path[0])
        for t, g in enumerate(gradients[name], 1):
            direction = torch.sign(b1 * m + (1 - b1) * g)
            w = w - lr * (direction + (wd if name == "linear.weight" else 0.0) * w)
            m = b2 * m + (1 - b2) * g
            torch.testing.assert_close(path[t], w, rtol=1e-5, atol=1e-7)
