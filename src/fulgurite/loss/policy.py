"""The mathematics of PPO and GRPO as pure functions of tensors.

Shapes: N label positions or answers, B answers of a micro-batch, T tokens, V vocabulary, D width. A mask is 1 on the
positions whose next token the policy sampled; the positions of one answer are adjacent.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

TINY = 1e-4
"""Added to the standard deviation of a group, so that it is never 0; TRL's value."""


def log_probs(
    hidden_ND: Tensor,
    weight_VD: Tensor,
    targets_N: Tensor,
    *,
    bias_V: Tensor | None = None,
    temperature: float = 1.0,
    chunk: int = 512,
) -> tuple[Tensor, Tensor]:
    """Returns the log-probability of each target and the entropy of each distribution (without gradient), in nats,
    float32 [N].

    The logits are divided by `temperature`, as they were when the target was sampled. They exist for `chunk`
    positions at a time; the backward pass computes them again.
    """

    def part(hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return log_probs_of_logits(functional.linear(hidden, weight_VD, bias_V), targets, temperature=temperature)

    if hidden_ND.shape[0] == 0:
        # Zeros of shape [0] with a graph, as in `loss/language.py`.
        nothing_N = hidden_ND.sum(1).float() * 0.0
        return nothing_N, nothing_N.detach()
    made: list[tuple[Tensor, Tensor]] = []
    for h, t in zip(torch.split(hidden_ND, chunk), torch.split(targets_N, chunk), strict=True):
        made.append(
            # Checkpointing keeps the hidden states of a chunk and not its logits, which are V / D times larger.
            checkpoint(part, h, t, use_reentrant=False, preserve_rng_state=False)
            if torch.is_grad_enabled()
            else part(h, t)
        )
    return torch.cat([m[0] for m in made]), torch.cat([m[1] for m in made])


def log_probs_of_logits(logits_NV: Tensor, targets_N: Tensor, *, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """Returns the same two numbers from whole logits."""
    all_NV = (logits_NV.float() / temperature).log_softmax(-1)
    # Detached: the entropy is only reported, and its graph would keep a second copy of the logits.
    entropy_N = -(all_NV.detach().exp() * all_NV.detach()).sum(-1)
    return all_NV.gather(1, targets_N[:, None])[:, 0], entropy_N


# -- divergence from another policy ----------------------------------------------------------------------------------


def k1(policy: Tensor, reference: Tensor) -> Tensor:
    """Returns log p − log q of samples of p: unbiased for KL(p‖q), single terms may be negative
    (http://joschu.net/blog/kl-approx.html)."""
    return policy - reference


def k3(policy: Tensor, reference: Tensor) -> Tensor:
    """Returns q/p − 1 − log(q/p) of samples of p: unbiased for KL(p‖q), never negative; used by GRPO
    (https://arxiv.org/abs/2402.03300, eq. 4)."""
    # The logarithm of q/p: the arguments are log-probabilities.
    ratio = reference - policy
    return ratio.exp() - ratio - 1


def adapt_coefficient(coefficient: float, kl: float, *, target: float, answers: int, horizon: int) -> float:
    """Returns the next KL coefficient of Ziegler's controller (https://arxiv.org/abs/1909.08593, section 2.2).

    The relative error is clamped to ±0.2; at that limit the coefficient changes by a fifth in `horizon` answers.
    """
    error = min(max(kl / target - 1, -0.2), 0.2)
    return coefficient * (1 + error * answers / horizon)


# -- advantages ------------------------------------------------------------------------------------------------------


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Returns the mean over the positions with mask 1; 0 if there is none."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


def measure_start(policy: Tensor, old: Tensor, reference: Tensor, mask: Tensor) -> Tensor:
    """Returns how far a ratio is from 1 at most, and the mean distance from the reference, [2]: both are 0 before the
    first step."""
    ratio = ((policy - old).exp() - 1).abs().mul(mask).max()
    return torch.stack([ratio, masked_mean((policy - reference).abs(), mask)])


def whiten(values: Tensor, mask: Tensor, *, shift: bool = True) -> Tensor:
    """Scales the values inside the mask to mean 0 and variance 1; keeps their mean if `shift` is false. Returns 0
    outside the mask.

    The variance is the unbiased one, and 1e-8 is added to it, as in https://arxiv.org/abs/2403.17031 (detail 18).
    """
    mean = masked_mean(values, mask)
    # Unbiased: n - 1, and at least 1, so that a single token gives variance 0.
    count = mask.sum()
    variance = ((values - mean) ** 2 * mask).sum() / (count - 1).clamp(min=1)
    white = (values - mean) * torch.rsqrt(variance + 1e-8)
    # The mask last: white is not 0 outside of it.
    return (white if shift else white + mean) * mask


def gae(
    rewards_BT: Tensor, values_BT: Tensor, mask_BT: Tensor, *, discount: float, smoothing: float
) -> tuple[Tensor, Tensor]:
    """Computes generalised advantages A and returns A + V (https://arxiv.org/abs/1506.02438): A_t = Σ (γλ)^k δ_{t+k},
    δ_t = r_t + γV_{t+1} − V_t.

    γ is `discount`, λ is `smoothing`. An answer is one episode: the value after its last token is 0.
    """
    advantages_BT = torch.zeros_like(values_BT)
    later_B, next_B = torch.zeros_like(values_BT[:, 0]), torch.zeros_like(values_BT[:, 0])
    # Backwards in time: `next_B` is V_{t+1}, `later_B` is A_{t+1}, both 0 after the end of an answer.
    for t in range(values_BT.shape[1] - 1, -1, -1):
        delta_B = rewards_BT[:, t] + discount * next_B - values_BT[:, t]
        # The mask makes the padding after an answer worth 0, so that nothing flows back into its last token.
        later_B = (delta_B + discount * smoothing * later_B) * mask_BT[:, t]
        next_B = values_BT[:, t] * mask_BT[:, t]
        advantages_BT[:, t] = later_B
    return advantages_BT, (advantages_BT + values_BT) * mask_BT


def group_advantages(rewards_N: Tensor, group: int, *, scale: bool) -> tuple[Tensor, Tensor]:
    """Subtracts from each reward the mean of its group, and divides by the group's standard deviation if `scale`
    (https://arxiv.org/abs/2402.03300).

    Without `scale` this is Dr. GRPO (https://arxiv.org/abs/2503.20783). Each `group` neighbours are one group. If all
    rewards of a group are equal, its advantages are exactly 0 and its entry in the second result, bool [N / group],
    is true.
    """
    # Answers to one prompt are neighbours in a rollout.
    rewards_GN = rewards_N.reshape(-1, group)
    # Compared exactly: with equal rewards the mean may be off by a rounding, which 1 / TINY would enlarge.
    ties_G = rewards_GN.amax(1) == rewards_GN.amin(1)
    centred_GN = rewards_GN - rewards_GN.mean(1, keepdim=True)
    if scale:
        centred_GN = centred_GN / (rewards_GN.std(1, keepdim=True) + TINY)
    return centred_GN.masked_fill(ties_G[:, None], 0.0).reshape(-1), ties_G


# -- losses ----------------------------------------------------------------------------------------------------------


def clipped_policy(new: Tensor, old: Tensor, advantages: Tensor, *, low: float, high: float) -> tuple[Tensor, Tensor]:
    """Returns −min(rA, clip(r, 1−low, 1+high)A) with r = p/p_old (https://arxiv.org/abs/1707.06347; two limits: DAPO,
    2503.14476).

    The second result is true for the positions that have no gradient because of the clip.
    """
    ratio = (new - old).exp()
    kept, limited = ratio * advantages, ratio.clamp(1 - low, 1 + high) * advantages
    # The minimum takes the clipped branch only if the clip makes the objective smaller: the sign of A decides which
    # side counts.
    clipped = ((ratio < 1 - low) & (advantages < 0)) | ((ratio > 1 + high) & (advantages > 0))
    return -torch.minimum(kept, limited), clipped


def clipped_value(new: Tensor, old: Tensor, returns: Tensor, *, clip: float) -> Tensor:
    """Returns ½ max((V − R)², (V_old + clip(V − V_old, ±clip) − R)²), as in OpenAI's code for PPO
    (https://arxiv.org/abs/2403.17031)."""
    # The larger error counts: a value that has moved beyond the clip towards its return has no gradient.
    limited = old + (new - old).clamp(-clip, clip)
    return 0.5 * torch.maximum((new - returns) ** 2, (limited - returns) ** 2)


def sum_losses(losses_BT: Tensor, mask_BT: Tensor, *, by_answer: bool) -> Tensor:
    """Returns the numerator of a step's loss: the sum over tokens, or the sum of the answers' means if `by_answer`."""
    if by_answer:
        return ((losses_BT * mask_BT).sum(1) / mask_BT.sum(1).clamp(min=1)).sum()
    return (losses_BT * mask_BT).sum()


def divisor(kind: str, *, answers: int, tokens: int, rollout_tokens: int, minibatches: int, longest: int) -> float:
    """Returns the divisor of `sum_losses`, for an optimizer step of `answers` answers with `tokens` tokens.

    `grpo`: the number of answers, because each contributes a mean (https://arxiv.org/abs/2402.03300). `bnpo`: the
    tokens of the step. `dapo`: an equal share of the tokens of the whole rollout, so that each token of a rollout has
    the same weight (https://arxiv.org/abs/2503.14476). `dr_grpo`: a constant, answers times the longest answer
    allowed (https://arxiv.org/abs/2503.20783).
    """
    return {
        "grpo": float(answers),
        "bnpo": float(tokens),
        "dapo": rollout_tokens / minibatches,
        "dr_grpo": float(answers * longest),
    }[kind]
