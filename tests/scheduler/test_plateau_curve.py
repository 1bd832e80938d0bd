"""The factors of reduce_lr_on_plateau, by hand and against torch's ReduceLROnPlateau."""

from __future__ import annotations

import random

import pytest
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from fulgurite.scheduler.plateau_curve import compute_plateau_factors

LR = 2e-4


def compute_torch_rates(losses: list[float], patience: int, factor: float) -> list[float]:
    """The rate after each evaluation, by torch's scheduler with torch's threshold."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
    scheduler = ReduceLROnPlateau(optimizer, factor=factor, patience=patience)
    rates = []
    for loss in losses:
        optimizer.step()
        scheduler.step(loss)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


@pytest.mark.parametrize("seed", range(20))
def test_factors_equal_torchs_reduce_lr_on_plateau(seed: int) -> None:
    draw = random.Random(seed)
    patience, factor = draw.randint(0, 4), draw.choice([0.1, 0.5, 0.9])
    losses = [draw.choice([1.0, 0.9999, 0.99, 0.9]) + draw.random() * draw.choice([0, 1e-4, 0.1]) for _ in range(40)]
    expected = compute_torch_rates(losses, patience, factor)
    found = [LR * f for f in compute_plateau_factors(losses, patience=patience, factor=factor)]
    # torch ignores a cut that moves the rate by no more than its eps of 1e-8
    assert found == pytest.approx(expected, abs=2e-8)


def test_a_gain_resets_the_count_and_a_cut_does_too() -> None:
    # evaluations 2 and 3 are borne, 4 is a gain, 5 and 6 are borne, 7 cuts, 8 and 9 are borne, 10 cuts
    losses = [1.0, 1.0, 1.0, 0.5, *[0.5] * 6]
    assert compute_plateau_factors(losses, patience=2, factor=0.5) == [1, 1, 1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25]
    assert compute_plateau_factors([], patience=2, factor=0.5) == []
