"""The reward model's loss by hand and as TRL's RewardTrainer writes it."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from fulgurite.loss.reward import bradley_terry

CHOSEN, REJECTED = torch.tensor([1.0, 0.5]), torch.tensor([0.0, 2.0])


def test_by_hand() -> None:
    # gaps 1 and -1.5: ln(1 + e^-1) and ln(1 + e^1.5)
    assert bradley_terry(CHOSEN, REJECTED).tolist() == pytest.approx(
        [math.log(1 + math.exp(-1)), math.log(1 + math.exp(1.5))]
    )


def test_equal_rewards_are_a_guess() -> None:
    assert bradley_terry(CHOSEN, CHOSEN).tolist() == pytest.approx([math.log(2)] * 2)


def test_a_margin_asks_for_more_and_centering_for_a_mean_of_0() -> None:
    margin = torch.tensor([1.0, 0.0])
    assert float(bradley_terry(CHOSEN, REJECTED, margin)[0]) == pytest.approx(math.log(2))
    # (1 + 0)² and (0.5 + 2)², a hundredth of each
    more = bradley_terry(CHOSEN, REJECTED, center=0.01) - bradley_terry(CHOSEN, REJECTED)
    assert more.tolist() == pytest.approx([0.01, 0.0625], abs=1e-6)


def test_it_is_trls_formula() -> None:
    """TRL computes it inside RewardTrainer.compute_loss, which needs a trainer; its lines are repeated here."""
    c, r, m = torch.randn(3, 16, dtype=torch.float64).unbind()
    theirs = -functional.logsigmoid(c - r - m).mean() + 0.01 * torch.mean((c + r) ** 2)
    torch.testing.assert_close(bradley_terry(c, r, m, 0.01).mean(), theirs, rtol=1e-12, atol=1e-12)
