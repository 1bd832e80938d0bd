"""The DPO family's losses as functions of the margin, in plain arithmetic: what `explain stage=dpo --plot` draws. No torch.

loss/preference.py has the same losses on tensors, and a test holds these against it; explain cannot wait for torch.
A loss of two numbers is drawn along one line: the chosen answer half the margin above, the rejected half below.
"""

from __future__ import annotations

import math

from fulgurite.stage.preference_table import PreferenceLoss as Loss
from fulgurite.stage.preference_table import row

LEVEL = -1.0
"""ORPO's mean log-probability a token in the middle between the two answers."""
SPANS = {Loss.ipo: 1.0, Loss.hinge: 2.0, Loss.sppo_hard: 2.0, Loss.discopop: 2.0, Loss.bco_pair: 6.0, Loss.nca_pair: 6.0}
"""How far the margin is drawn to both sides, times 1 / beta; 4 for others."""


def span(loss: Loss, beta: float) -> float:
    """The margin at the right edge. ORPO's is bounded by its probabilities."""
    return 1.9 if loss is Loss.orpo else SPANS.get(loss, 4.0) / beta


def value(loss: Loss, margin: float, beta: float, smoothing: float = 0.0, gamma: float = 0.0, tau: float = 0.05) -> float:
    """The loss of one pair at a margin, in nats (a token, where the loss divides by the length)."""
    score, half = beta * margin, margin / 2
    match loss:
        case Loss.hinge:
            return max(0.0, 1 - score)
        case Loss.ipo:
            return (margin - 1 / (2 * beta)) ** 2
        case Loss.robust:
            return (smoothing * _log_sigmoid(-score) - (1 - smoothing) * _log_sigmoid(score)) / (1 - 2 * smoothing)
        case Loss.exo_pair:
            first = _sigmoid(score) * (_log_sigmoid(score) - math.log1p(-smoothing))
            return first + _sigmoid(-score) * (_log_sigmoid(-score) - math.log(smoothing))
        case Loss.nca_pair:
            return -_log_sigmoid(beta * half) - 0.5 * _log_sigmoid(-beta * half) - 0.5 * _log_sigmoid(beta * half)
        case Loss.bco_pair:
            return -2 * _log_sigmoid(beta * half)
        case Loss.sppo_hard:
            return 2 * (half - 0.5 / beta) ** 2
        case Loss.discopop:
            share = _sigmoid(score / tau)
            return -_log_sigmoid(score) * (1 - share) + math.exp(-score) * share
        case Loss.apo_zero:
            return 1 - _sigmoid(beta * half) + _sigmoid(-beta * half)
        case Loss.apo_down:
            return _sigmoid(beta * half) + 1 - _sigmoid(score)
        case Loss.orpo:
            return -beta * _log_sigmoid(_log_odds(LEVEL + half) - _log_odds(LEVEL - half))
        case Loss.simpo:
            return _smoothed(score - gamma, smoothing)
    return _smoothed(score, smoothing)  # sigmoid, aot, cpo


def course(loss: Loss, points: int = 121, **given: float) -> tuple[list[float], list[float]]:
    """Margins and losses at so many points, with what the loss takes where nothing is given."""
    found = row(loss)
    beta = given.get("beta", found.beta)
    rest = {
        "smoothing": given.get("label_smoothing", found.smoothing or 0.0),
        "gamma": given.get("gamma", (found.gamma_share or 0.0) * beta),
        "tau": given.get("tau", found.tau or 0.05),
    }
    edge = span(loss, beta)
    margins = [edge * (2 * i / (points - 1) - 1) for i in range(points)]
    return margins, [value(loss, x, beta, **rest) for x in margins]


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def _log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x)) if x >= 0 else x - math.log1p(math.exp(x))


def _smoothed(score: float, smoothing: float) -> float:
    return -(1 - smoothing) * _log_sigmoid(score) - smoothing * _log_sigmoid(-score)


def _log_odds(logp: float) -> float:
    return logp - math.log(-math.expm1(logp))
