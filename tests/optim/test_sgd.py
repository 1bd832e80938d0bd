"""SGD's steps against the heavy ball's formula."""

from __future__ import annotations

import torch
from tests.optim.formula_net import record_steps


def test_sgd_equals_the_heavy_balls_formula() -> None:
    lr, momentum, wd = 0.05, 0.7, 0.2
    weights, gradients = record_steps(
        "optim=sgd", f"optim.lr={lr}", f"optim.momentum={momentum}", f"optim.weight_decay={wd}"
    )
    for name, path in weights.items():
        w, buffer = path[0].clone(), torch.zeros_like(path[0])
        decay = wd if name == "linear.weight" else 0.0
        for t, g in enumerate(gradients[name], 1):
            whole = g + decay * w
            buffer = whole if t == 1 else momentum * buffer + whole
            w = w - lr * buffer
            torch.testing.assert_close(path[t], w, rtol=1e-5, atol=1e-7)
