"""The DPO family's losses as functions of the margin, in plain arithmetic: what `explain stage=dpo --plot` draws. No
torch.

loss/preference.py has the same losses on tensors, and a test holds these against it; explain cannot wait for torch.
A loss of two numbers is drawn along one line: the chosen answer half the margin above, the rejected half below.
"""

from __future__ import annotations

import math

from fulgurite.config.losses import load_formula, load_function
from fulgurite.stage.preference_table import get_row

LEVEL = -1.0
"""ORPO's mean log-probability a token in the middle between the two answers."""

def compute_span(loss: str, beta: float) -> float:
    """The margin at the right edge. ORPO's is bounded by its probabilities."""
    return 1.9 if loss == "orpo" else get_row(loss).span / beta


def compute_value(
    loss: str, margin: float, beta: float, smoothing: float = 0.0, gamma: float = 0.0, tau: float = 0.05
) -> float:
    """The loss of one pair at a margin, in nats (a token, if the loss divides by the length)."""
    score, half = beta * margin, margin / 2
    match loss:
        case "hinge":
            return max(0.0, 1 - score)
        case "ipo":
            # IPO regresses the margin to 1 / (2 beta), https://arxiv.org/abs/2310.12036
            return (margin - 1 / (2 * beta)) ** 2
        case "robust":
            return (smoothing * _log_sigmoid(-score) - (1 - smoothing) * _log_sigmoid(score)) / (1 - 2 * smoothing)
        case "exo_pair":
            # KL divergence of the model's preference from the label, which is 1 - smoothing to smoothing
            first = _sigmoid(score) * (_log_sigmoid(score) - math.log1p(-smoothing))
            return first + _sigmoid(-score) * (_log_sigmoid(-score) - math.log(smoothing))
        case "nca_pair":
            return -_log_sigmoid(beta * half) - 0.5 * _log_sigmoid(-beta * half) - 0.5 * _log_sigmoid(beta * half)
        case "bco_pair":
            return -2 * _log_sigmoid(beta * half)
        case "sppo_hard":
            return 2 * (half - 0.5 / beta) ** 2
        case "discopop":
            share = _sigmoid(score / tau)
            return -_log_sigmoid(score) * (1 - share) + math.exp(-score) * share
        case "apo_zero":
            return 1 - _sigmoid(beta * half) + _sigmoid(-beta * half)
        case "apo_down":
            return _sigmoid(beta * half) + 1 - _sigmoid(score)
        case "orpo":
            return -beta * _log_sigmoid(_log_odds(LEVEL + half) - _log_odds(LEVEL - half))
        case "simpo":
            return _smooth(score - gamma, smoothing)
        case "sigmoid" | "aot" | "cpo":
            return _smooth(score, smoothing)
    return _compute_by_formula(loss, margin, beta, smoothing, gamma, tau)


def _compute_by_formula(loss: str, margin: float, beta: float, smoothing: float, gamma: float, tau: float) -> float:
    """A loss that a package adds, by its own formula on tensors: only then torch is loaded."""
    declared = get_row(loss)
    given = {"smoothing": declared.smoothing, "gamma": declared.gamma_share, "tau": declared.tau}
    values = {"smoothing": smoothing, "gamma": gamma, "tau": tau}
    read = {name: values[name] for name, usual in given.items() if usual is not None}
    at_margin = load_function("fulgurite.loss.preference:at_margin")
    return float(at_margin(load_formula(declared, loss), margin, beta, **read))


def compute_course(loss: str, points: int = 121, **given: float) -> tuple[list[float], list[float]]:
    """Margins and losses at so many points, with the loss's own values if none are given."""
    found = get_row(loss)
    beta = given.get("beta", found.beta)
    rest = {
        "smoothing": given.get("label_smoothing", found.smoothing or 0.0),
        "gamma": given.get("gamma", (found.gamma_share or 0.0) * beta),
        "tau": given.get("tau", found.tau or 0.05),
    }
    edge = compute_span(loss, beta)
    # from -edge to edge, both included; the middle is a margin of 0 if `points` is odd
    margins = [edge * (2 * i / (points - 1) - 1) for i in range(points)]
    return margins, [compute_value(loss, x, beta, **rest) for x in margins]


def _sigmoid(x: float) -> float:
    # the exponent is never positive, so that exp does not overflow
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def _log_sigmoid(x: float) -> float:
    # log sigmoid(x) = -log(1 + exp(-x)); for negative x the equal x - log(1 + exp(x)), which does not overflow
    return -math.log1p(math.exp(-x)) if x >= 0 else x - math.log1p(math.exp(x))


def _smooth(score: float, smoothing: float) -> float:
    return -(1 - smoothing) * _log_sigmoid(score) - smoothing * _log_sigmoid(-score)


def _log_odds(logp: float) -> float:
    # log(p / (1 - p)) with p = exp(logp); -expm1(logp) is 1 - p without cancellation if p is near 1
    return logp - math.log(-math.expm1(logp))
