"""The preference losses in plain arithmetic, against loss/preference.py."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from fulgurite.explain.losses import LEVEL, compute_course, compute_span, compute_value
from fulgurite.loss import preference
from fulgurite.stage.preference_table import get_row, list_names

MARGINS = torch.linspace(-3, 3, 61, dtype=torch.float64)
Tensors = Callable[[torch.Tensor, torch.Tensor, float, float, float, float], torch.Tensor]


def on_tensors(
    loss: str, margin: torch.Tensor, beta: float, smoothing: float, gamma: float, tau: float
) -> torch.Tensor:
    """loss/preference.py on the line that explain draws."""
    level = LEVEL if loss == "orpo" else 0.0
    chosen, rejected = level + margin / 2, level - margin / 2
    match loss:
        case "sigmoid" | "robust" | "exo_pair" | "cpo":
            return getattr(preference, loss)(chosen, rejected, beta, smoothing)
        case "aot":
            return preference.aot(margin, torch.zeros_like(margin), beta, smoothing)
        case "discopop":
            return preference.discopop(chosen, rejected, beta, tau)
        case "simpo":
            return preference.simpo(chosen, rejected, beta, gamma, smoothing)
    return getattr(preference, loss)(chosen, rejected, beta)


@pytest.mark.parametrize("loss", list_names())
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_plain_arithmetic_is_the_loss_that_trains(loss: str, scale: float) -> None:
    found = get_row(loss)
    beta, gamma, tau = scale * found.beta, (found.gamma_share or 0) * scale * found.beta, found.tau or 0.05
    smoothing = (found.smoothing or 0.0) if scale == 1 or found.smoothing is None else 0.2
    margins = MARGINS * compute_span(loss, beta) / 3
    expected = on_tensors(loss, margins, beta, smoothing, gamma, tau)
    ours = torch.tensor(
        [compute_value(loss, x, beta, smoothing, gamma, tau) for x in margins.tolist()], dtype=torch.float64
    )
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


def test_curves_stand_where_papers_say() -> None:
    assert compute_value("sigmoid", 0.0, 0.1) == pytest.approx(math.log(2))
    assert compute_value("hinge", 20.0, 0.05) == 0  # nothing is left at a margin of 1 / beta
    margins, values = compute_course("ipo", 2001)
    assert margins[values.index(min(values))] == pytest.approx(5)  # 1 / (2 · beta)
    assert compute_course("sigmoid", beta=1.0)[0][-1] == 4


def test_the_course_takes_what_the_loss_has_by_itself() -> None:
    margins, values = compute_course("simpo", 3)
    assert margins[1] == 0
    assert values[1] == pytest.approx(math.log1p(math.e))  # gamma is half of beta = 2
    assert compute_course("simpo", 3, gamma=0.0)[1][1] == pytest.approx(math.log(2))
