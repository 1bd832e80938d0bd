"""reduce_lr_on_plateau is torch's own, counts evaluations, and is refused where there is nothing to monitor."""

from __future__ import annotations

import pytest
import torch

from fulgurite.config.schema import build
from fulgurite.errors import ConfigError
from fulgurite.scheduler.config import Cosine, ReduceLrOnPlateau
from fulgurite.scheduler.plateau import check

LR = 2e-4


def _rates(config: ReduceLrOnPlateau, losses: list[float]) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
    scheduler = build(config, optimizer)
    rates = []
    for loss in losses:
        optimizer.step()
        scheduler.step(loss)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def test_patience_counts_evaluations() -> None:
    # patience 2: evaluations 2 and 3 without a gain are borne, the 4th cuts by half
    assert _rates(ReduceLrOnPlateau(patience=2, factor=0.5), [1.0] * 4) == [LR, LR, LR, LR / 2]


def test_a_gain_below_a_ten_thousandth_does_not_count() -> None:
    assert _rates(ReduceLrOnPlateau(patience=0, factor=0.5), [1.0, 1.0 - 5e-5])[-1] == LR / 2
    assert _rates(ReduceLrOnPlateau(patience=0, factor=0.5), [1.0, 1.0 - 2e-4])[-1] == LR


def test_without_validation_it_is_refused_in_one_sentence() -> None:
    with pytest.raises(ConfigError) as refused:
        check(ReduceLrOnPlateau(), has_validation=False)
    text = str(refused.value)
    assert "scheduler=reduce_lr_on_plateau" in text
    assert "data.val_fraction=0.05" in text
    assert text.count(". ") == 0
    assert "\n" not in text


def test_others_need_no_validation() -> None:
    check(Cosine(), has_validation=False)
    check(ReduceLrOnPlateau(), has_validation=True)
