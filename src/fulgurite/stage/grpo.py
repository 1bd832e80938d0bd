"""`stage=grpo`: the mean reward of the answers to a prompt is their baseline (Shao et al.,
https://arxiv.org/abs/2402.03300)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from fulgurite.loss.policy import clipped_policy, divisor, group_advantages, k3, masked_mean, sum_losses
from fulgurite.stage import config as c
from fulgurite.stage.base import Batch
from fulgurite.stage.policy import PolicyStage
from fulgurite.stage.rollout_buffer import IGNORE, Buffer


class Group:
    """Computes advantages from the group, without a value head."""

    kl_limit = 2.0
    """Nats per token, by the k3 estimate (axolotl's alarm)."""

    def __init__(self, config: c.Grpo) -> None:
        self.config = config
        self.refers = config.kl_coefficient > 0

    def prepare(self, buffer: Buffer, rewards_N: Tensor, cut_N: Tensor) -> None:
        """Computes `advantages` by answer; removes the targets of cut answers if they are to be masked."""
        score_N = rewards_N - self.config.missing_eos_penalty * cut_N
        advantages_N, ties_G = group_advantages(score_N, self.config.num_generations, scale=self.config.scale_rewards)
        buffer.of_answer["advantages"] = advantages_N
        buffer.record["train/ties"] = float(ties_G.float().mean())
        if self.refers:
            estimate = k3(buffer.of_token["old"], buffer.of_token["reference"])
            buffer.record["train/kl"] = float(masked_mean(estimate, buffer.mask_NT))
        if self.config.mask_truncated:
            buffer.targets_NT = buffer.targets_NT.masked_fill(cut_N[:, None], IGNORE)

    def compute_divisor(self, buffer: Buffer, answers: list[int]) -> float:
        """Returns the divisor that `stage.loss` chooses, for the answers of one step."""
        config = self.config
        return divisor(
            config.loss, answers=len(answers), tokens=buffer.count_tokens(answers),
            rollout_tokens=buffer.count_tokens(), minibatches=config.minibatches, longest=config.max_new_tokens,
        )

    def compute_loss(self, batch: Batch, new_BT: Tensor, values_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the clipped loss, with the KL penalty if there is one, and the clipped tokens."""
        config = self.config
        losses_BT, clipped_BT = clipped_policy(
            new_BT, batch["old"], batch["advantages"][:, None], low=config.clip_low, high=config.clip_high
        )
        if self.refers:
            losses_BT = losses_BT + config.kl_coefficient * k3(new_BT, batch["reference"])
        mask_BT = (batch["targets"] != IGNORE).float()
        return sum_losses(losses_BT, mask_BT, by_answer=config.loss is c.GrpoLoss.grpo), clipped_BT

    def get_state(self) -> dict[str, Any]:
        """Returns an empty state: nothing changes."""
        return {}

    def load(self, state: dict[str, Any]) -> None:
        """Does nothing: there is no state."""


class GrpoStage(PolicyStage):
    """A policy without a value head: the mean reward of the group is the baseline."""

    objective_type = Group
