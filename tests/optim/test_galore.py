"""GaLore against its algorithm written out; what is too small to project goes by AdamW."""

from __future__ import annotations

import pytest
import torch
from tests.optim.nets import Wide, config
from tests.optim.projections import LR, MATRICES, WD, compute_adam, record_paths

from fulgurite.config.schema import build
from fulgurite.errors import ConfigError


def test_galore_projects_by_singular_vectors_that_it_renews() -> None:
    rank, gap, scale = 8, 3, 0.5
    weights, gradients = record_paths(
        "galore", f"optim.rank={rank}", f"optim.update_proj_gap={gap}", f"optim.scale={scale}"
    )
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
                mean, variance, low = compute_adam(mean, variance, g @ basis.T if tall else basis.T @ g, t, False)
                update = scale * (low @ basis if tall else basis @ low)
            else:
                mean, variance, update = compute_adam(mean, variance, g, t, False)
            w = (w - LR * update) * (1 - LR * decay)
            torch.testing.assert_close(path[t], w, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("name", ["galore", "apollo"])
def test_a_rank_above_every_matrix_is_refused_with_the_width(name: str) -> None:
    with pytest.raises(
        ConfigError, match=r"optim\.rank=64 leaves nothing to project: .* at most 64; use a smaller optim\.rank"
    ):
        build(config(name, "optim.rank=64"), Wide())
