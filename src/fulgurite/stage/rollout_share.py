"""Divides a rollout among the processes of a run: each generates a part, and afterwards every process has the whole.

The answers are those of one process, because an engine draws a portion by its position in the rollout, whoever draws
it. What a process lacks is zero in its tensors, so that a sum over the processes is exact. `all_gather_object` would
pickle. Shapes: N answers of the rollout, T tokens of the longest possible answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fulgurite.stage.rollout import Drawn, Rollouts

Rewards = tuple[list[float], dict[str, list[float]]]
"""The reward of each answer, and each reward function's own numbers."""


@dataclass(frozen=True, slots=True)
class Share:
    """A process among those of a run. `all_reduce` sums a tensor on `device` over them, in place, and returns it."""

    rank: int
    processes: int
    device: torch.device
    all_reduce: Callable[[Tensor], Tensor]


def generate_shared(
    engine: Rollouts, prompts: Sequence[Sequence[int]], seed: Sequence[int], portion: int, longest: int, share: Share
) -> Drawn:
    """Generates this process's portions of `portion` prompts, and returns the answers of all processes.

    No answer is longer than `longest` tokens.
    """
    if share.processes == 1:
        return engine.generate(prompts, seed)
    tokens_NT = torch.zeros(len(prompts), longest, dtype=torch.int64)
    log_probs_NT = torch.zeros(len(prompts), longest)
    ends_N2 = torch.zeros(len(prompts), 2, dtype=torch.int64)
    # The same portions as in one process, given out in turn.
    for start in range(0, len(prompts), portion)[share.rank :: share.processes]:
        drawn = engine.generate(prompts[start : start + portion], seed, start)
        for n, answer in enumerate(drawn.tokens, start):
            tokens_NT[n, : len(answer)] = torch.tensor(answer, dtype=torch.int64)
            log_probs_NT[n, : len(answer)] = torch.tensor(drawn.log_probs[n - start])
            ends_N2[n, 0], ends_N2[n, 1] = len(answer), int(drawn.stopped[n - start])
    # Each place is filled by one process and 0 in the others: the sum is exact.
    tokens, log_probs, ends = (
        share.all_reduce(values.to(share.device)).tolist() for values in (tokens_NT, log_probs_NT, ends_N2)
    )
    lengths = [length for length, _ in ends]
    return Drawn(
        [row[:length] for row, length in zip(tokens, lengths, strict=True)],
        [row[:length] for row, length in zip(log_probs, lengths, strict=True)],
        [bool(stopped) for _, stopped in ends],
    )


def share_rewards(compute: Callable[[], Rewards], names: Sequence[str], answers: int, share: Share) -> Rewards:
    """Computes the rewards in the first process and returns them in every process.

    A reward function may compare all answers, keep a state, or draw numbers: it is called once, as in one process.
    """
    if share.processes == 1:
        return compute()
    # float64 holds every number that a reward function returned, without rounding.
    rewards_KN = torch.zeros(1 + len(names), answers, dtype=torch.float64)
    if share.rank == 0:
        total, each = compute()
        rewards_KN = torch.tensor([total, *(each[name] for name in names)], dtype=torch.float64)
    total, *each_KN = share.all_reduce(rewards_KN.to(share.device)).tolist()
    return total, dict(zip(names, each_KN, strict=True))
