"""Preference losses, as pure functions of the log-probabilities of answers.

Shapes: B pairs (or, in KTO, B judged answers). `chosen_B` and `rejected_B` are log π/π_ref of a whole answer in
nats, unless the docstring of a function gives another meaning. Each function returns one loss per pair, loss_B; the
stage computes the mean over the step. TRL has the same losses inside the methods of its trainers, so they cannot be
called from here; the tests compare ours with its source.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

NEARLY_CERTAIN = -1e-6
"""The largest mean log-probability that `orpo` uses: at 0 the odds are infinite."""


def sigmoid(chosen_B: Tensor, rejected_B: Tensor, beta: float, smoothing: float = 0.0) -> Tensor:
    """Computes DPO, Rafailov et al., https://arxiv.org/abs/2305.18290; cDPO if `smoothing`, the share of flipped
    labels, is above 0."""
    return _smoothed(beta * (chosen_B - rejected_B), smoothing)


def hinge(chosen_B: Tensor, rejected_B: Tensor, beta: float) -> Tensor:
    """Computes SLiC-HF in the form of RSO, Liu et al., https://arxiv.org/abs/2309.06657: 0 from a margin of 1/beta
    on."""
    return torch.relu(1 - beta * (chosen_B - rejected_B))


def ipo(chosen_B: Tensor, rejected_B: Tensor, beta: float) -> Tensor:
    """Computes IPO, Azar et al., https://arxiv.org/abs/2310.12036, equation 17: beta is the paper's τ.

    The paper uses the log ratio of the whole answer. TRL uses the mean over its tokens, as the authors do according
    to TRL's source; `stage.length_normalize` selects one of the two.
    """
    # A regression: the margin has a target, while DPO's loss falls for any larger margin.
    return (chosen_B - rejected_B - 1 / (2 * beta)) ** 2


def robust(chosen_B: Tensor, rejected_B: Tensor, beta: float, smoothing: float) -> Tensor:
    """Computes rDPO, Chowdhury et al., https://arxiv.org/abs/2403.00409: unbiased if the share `smoothing` of the
    labels is flipped."""
    scores_B = beta * (chosen_B - rejected_B)
    # ((1 - ε) l(s) - ε l(-s)) / (1 - 2ε) with l(s) = -log σ(s) and ε = smoothing.
    return (smoothing * logsigmoid(-scores_B) - (1 - smoothing) * logsigmoid(scores_B)) / (1 - 2 * smoothing)


def exo_pair(chosen_B: Tensor, rejected_B: Tensor, beta: float, smoothing: float) -> Tensor:
    """Computes EXO, Ji et al., https://arxiv.org/abs/2402.00856, equation 16: the reverse KL to (1 - smoothing,
    smoothing)."""
    scores_B = beta * (chosen_B - rejected_B)
    # A tensor, so that its logarithms are computed in the dtype of the scores; smoothing=0 is refused by the config.
    soft = torch.tensor(smoothing, dtype=scores_B.dtype, device=scores_B.device)
    # KL(p ‖ q) of two outcomes: p is the policy's preference, q = (1 - smoothing, smoothing) the label's.
    first = scores_B.sigmoid() * (logsigmoid(scores_B) - torch.log1p(-soft))
    return first + (-scores_B).sigmoid() * (logsigmoid(-scores_B) - soft.log())


def nca_pair(chosen_B: Tensor, rejected_B: Tensor, beta: float) -> Tensor:
    """Computes NCA, Chen et al., https://arxiv.org/abs/2402.05369: keeps the likelihood of the chosen answer high."""
    first, second = beta * chosen_B, beta * rejected_B
    # The last two terms pull both answers down, the chosen one with half the weight of the term that raises it.
    return -logsigmoid(first) - 0.5 * logsigmoid(-first) - 0.5 * logsigmoid(-second)


def bco_pair(chosen_B: Tensor, rejected_B: Tensor, beta: float, shift: float = 0.0) -> Tensor:
    """Computes BCO, Jung et al., https://arxiv.org/abs/2404.04656: a classifier of rewards above and below `shift`.

    The paper's shift is the running mean of the rewards; TRL 1.16 leaves it out (0).
    """
    return -logsigmoid(beta * chosen_B - shift) - logsigmoid(shift - beta * rejected_B)


def sppo_hard(chosen_B: Tensor, rejected_B: Tensor, beta: float) -> Tensor:
    """Computes SPPO with hard labels, Wu et al., https://arxiv.org/abs/2405.00675, equation 4.7: beta is 1/η."""
    # The paper's target is η (P - 1/2) for a win probability P: 1 for the chosen answer, 0 for the rejected.
    return (chosen_B - 0.5 / beta) ** 2 + (rejected_B + 0.5 / beta) ** 2


def aot(margin_B: Tensor, paired_B: Tensor, beta: float, smoothing: float = 0.0) -> Tensor:
    """Computes AOT, Melnyk et al., https://arxiv.org/abs/2406.05882: compares distributions of margins, not pairs.

    `margin_B` is log π(chosen) - log π(rejected); `paired_B` the reference's margin of the same rank (`pair_by_rank`).
    """
    return _smoothed(beta * (margin_B - paired_B), smoothing)


def pair_by_rank(margin_B: Tensor, reference_B: Tensor) -> Tensor:
    """Returns for each margin the reference margin of the same rank in ascending order; ties keep their order."""
    paired_B = torch.empty_like(reference_B)
    # Scatter by rank: the k-th smallest margin gets the k-th smallest reference. Stable, so that ties do not depend
    # on the device.
    paired_B[margin_B.argsort(stable=True)] = reference_B.sort().values
    return paired_B


def discopop(chosen_B: Tensor, rejected_B: Tensor, beta: float, tau: float = 0.05) -> Tensor:
    """Computes DiscoPOP, Lu et al., https://arxiv.org/abs/2406.08414, equation 5: logistic and exponential loss,
    mixed by the margin.

    It is not convex: if tau is below 0.102, it increases at a margin of 0; with 0.05 it has a local minimum at
    beta · margin = -0.1.
    """
    scores_B = beta * (chosen_B - rejected_B)
    # The mixing weight has a gradient too: it is a part of the loss that was found, not a constant.
    share_B = torch.sigmoid(scores_B / tau)
    return -logsigmoid(scores_B) * (1 - share_B) + torch.exp(-scores_B) * share_B


def apo_zero(chosen_B: Tensor, rejected_B: Tensor, beta: float) -> Tensor:
    """Computes APO-zero, D'Oosterlinck et al., https://arxiv.org/abs/2408.06266, equation 7: raises the chosen
    answer, lowers the rejected one."""
    return 1 - torch.sigmoid(beta * chosen_B) + torch.sigmoid(beta * rejected_B)


def apo_down(chosen_B: Tensor, rejected_B: Tensor, beta: float) -> Tensor:
    """Computes APO-down, the same paper, equation 8: lowers both answers, the rejected one more."""
    return torch.sigmoid(beta * chosen_B) + 1 - torch.sigmoid(beta * (chosen_B - rejected_B))


def orpo(chosen_B: Tensor, rejected_B: Tensor, beta: float) -> Tensor:
    """Computes ORPO's odds-ratio term, Hong et al., https://arxiv.org/abs/2403.07691, equations 4 and 7; beta is the
    paper's λ.

    Arguments are the policy's mean log-probabilities per token; the stage adds the paper's SFT term
    (`stage.sft_weight`).
    """
    return -beta * logsigmoid(_log_odds(chosen_B) - _log_odds(rejected_B))


def simpo(chosen_B: Tensor, rejected_B: Tensor, beta: float, gamma: float, smoothing: float = 0.0) -> Tensor:
    """Computes SimPO, Meng et al., https://arxiv.org/abs/2405.14734, equation 6, from the policy's mean
    log-probabilities per token."""
    return _smoothed(beta * (chosen_B - rejected_B) - gamma, smoothing)


def cpo(chosen_B: Tensor, rejected_B: Tensor, beta: float, smoothing: float = 0.0) -> Tensor:
    """Computes CPO's preference term, Xu et al., https://arxiv.org/abs/2401.08417, from the policy's summed
    log-probabilities."""
    return _smoothed(beta * (chosen_B - rejected_B), smoothing)


def at_margin(formula: Callable[..., Tensor], margin: float, beta: float, **given: float) -> float:
    """Returns the loss of one pair whose log ratios are half the margin above and below 0."""
    # Symmetric about 0, and in float64: the plots and the first-step rule compare with closed forms.
    half_B = torch.tensor([margin / 2], dtype=torch.float64)
    return float(formula(half_B, -half_B, beta, **given))


def kto(
    ratio_B: Tensor,
    desirable_B: Tensor,
    kl: Tensor,
    beta: float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> Tensor:
    """Computes KTO, Ethayarajh et al., https://arxiv.org/abs/2402.01306, equation 8, without its constant λ_y.

    `ratio_B` is log π/π_ref of each answer, `desirable_B` is true for a good answer, `kl` is the baseline of
    `kto_kl`.
    """
    # The value saturates on both sides, which is why an outlier hardly counts.
    good_B = desirable_weight * (1 - torch.sigmoid(beta * (ratio_B - kl)))
    bad_B = undesirable_weight * (1 - torch.sigmoid(beta * (kl - ratio_B)))
    return torch.where(desirable_B, good_B, bad_B)


def kto_kl(total: Tensor, count: int) -> Tensor:
    """Computes KTO's baseline: the mean log ratio of answers to other prompts, at least 0, without a gradient."""
    # A KL divergence is never negative, but its estimate from a few answers may be.
    return (total / max(count, 1)).clamp(min=0).detach()


def _smoothed(scores_B: Tensor, smoothing: float) -> Tensor:
    # The cross entropy with a label that is wrong with probability `smoothing`.
    return -(1 - smoothing) * logsigmoid(scores_B) - smoothing * logsigmoid(-scores_B)


def _log_odds(logp_B: Tensor) -> Tensor:
    """Computes log(p / (1 - p)) of p = exp(logp)."""
    # `expm1` is exact for p near 1, `log1p` for p near 0; log(1/2) = -0.6931 separates the two.
    logp_B = logp_B.clamp(max=NEARLY_CERTAIN)
    return logp_B - torch.where(logp_B > -0.6931, torch.log(-torch.expm1(logp_B)), torch.log1p(-torch.exp(logp_B)))
