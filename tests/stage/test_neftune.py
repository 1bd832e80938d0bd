"""NEFTune: uniform noise of the paper's bound on the embeddings, in training alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.end_to_end.runs import losses, rows, tiny

from fulgurite.stage.neftune import add_noise


def test_noise_on_embeddings_is_bounded_by_the_papers_formula_and_only_in_training(tmp_path: Path) -> None:
    x = torch.zeros(3, 7, 16)
    torch.manual_seed(0)
    noise = add_noise(x, 5.0)
    bound = 5.0 / (7 * 16) ** 0.5
    assert 0.9 * bound < float(noise.abs().max()) <= bound
    assert float(noise.std()) == pytest.approx(bound / 3**0.5, rel=0.1)  # of a uniform distribution
    words = ["trainer.max_steps=2", "optim.lr=1e-6", "trainer.eval_every=1", "data.val_fraction=0.2"]
    quiet, loud = tiny(tmp_path / "quiet", *words), tiny(tmp_path / "loud", *words, "stage.neftune_alpha=50")
    assert abs(losses(loud)[0] - losses(quiet)[0]) > 1e-3
    val = [[row["val/loss"] for row in rows(f) if "val/loss" in row] for f in (quiet, loud)]
    assert val[0] == pytest.approx(val[1], abs=1e-4)
