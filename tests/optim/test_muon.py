"""Muon's steps against its author's formula, and AdamW's for the rest, each at its own rate."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from tests.end_to_end.runs import rows, tiny
from tests.optim.formula_net import compose_optim, record_steps
from torch import nn

from fulgurite.config.compose import compose
from fulgurite.config.schema import build
from fulgurite.errors import ConfigError


def orthogonal(m: torch.Tensor, steps: int) -> torch.Tensor:
    """Newton-Schulz with Jordan's coefficients, in bf16 as his code and torch have it."""
    x = m.bfloat16() if m.shape[0] <= m.shape[1] else m.bfloat16().T
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    return x if m.shape[0] <= m.shape[1] else x.T


@pytest.mark.parametrize("scale", ["rms", "own"])
def test_muon_steps_matrices_and_adamw_the_rest_at_its_own_rate(scale: str) -> None:
    lr, adam_lr, wd, momentum, eps, (b1, b2) = 0.02, 0.003, 0.1, 0.9, 1e-6, (0.8, 0.95)
    words = [
        f"optim.lr={lr}",
        f"optim.adam_lr={adam_lr}",
        f"optim.weight_decay={wd}",
        f"optim.momentum={momentum}",
        f"optim.eps={eps}",
    ]
    weights, gradients = record_steps("optim=muon", *words, f"optim.betas=[{b1},{b2}]", f"optim.scale={scale}",
        "optim.ns_steps=4")
    for name, path in weights.items():
        w, m, v = path[0].clone(), torch.zeros_like(path[0]), torch.zeros_like(path[0])
        for t, g in enumerate(gradients[name], 1):
            if name == "linear.weight":  # 3 rows, 4 columns
                m = momentum * m + (1 - momentum) * g
                update = orthogonal((1 - momentum) * g + momentum * m, 4).float()
                size = 0.2 * math.sqrt(4) if scale == "rms" else 1.0  # own: the root of max(1, rows / columns)
                w = w - lr * wd * w - lr * size * update
                torch.testing.assert_close(
                    path[t], w, rtol=0, atol=2e-4
                )  # bf16 inside: 8 bits of an entry below 1, times lr
            else:
                m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
                w = w - adam_lr * (m / (1 - b1**t)) / ((v / (1 - b2**t)).sqrt() + eps)
                torch.testing.assert_close(path[t], w, rtol=1e-5, atol=1e-7)


def test_muon_logs_its_own_rate_and_fills_the_other(tmp_path: Path) -> None:
    folder = tiny(tmp_path, "optim=muon", "optim.scale=own", "method=full", "scheduler=constant")
    assert [row["train/lr"] for row in rows(folder) if "train/lr" in row] == [0.02, 0.02]
    origin = json.loads((folder / "provenance.json").read_text())["knobs"]
    assert origin["optim.adam_lr"]["value"] == 1e-4
    assert "SmolLM2" in origin["optim.adam_lr"]["reason"]
    assert compose(["model=tiny", "optim=muon", "method=full", "optim.lr=3e-4"]).run.optim.adam_lr == 3e-4


def test_a_module_without_a_hidden_matrix_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"optim=muon found no trained matrix inside the model.*use optim=adamw"):
        build(compose_optim("optim=muon", "method=full"), nn.Sequential(nn.Embedding(7, 4), nn.LayerNorm(4)))
