"""`stage=ppo`: proximal policy optimisation (https://arxiv.org/abs/1707.06347; of text:
https://arxiv.org/abs/1909.08593).

The value is a linear head on the policy's own last states, not a second model: it needs almost no memory, and works
with adapters and with full weights. Its gradient reaches the shared layers with the weight `stage.vf_coef`. The head
is saved with the run and left out of an export. TRL no longer has PPO, so the details follow
https://arxiv.org/abs/2403.17031.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fulgurite.loss.policy import (
    adapt_coefficient,
    clipped_policy,
    clipped_value,
    gae,
    k1,
    masked_mean,
    sum_losses,
    whiten,
)
from fulgurite.stage import config as c
from fulgurite.stage.base import Batch
from fulgurite.stage.policy import PolicyStage
from fulgurite.stage.rollout_buffer import IGNORE, Buffer


class Proximal:
    """Computes rewards by token, advantages by GAE, and clipped losses of policy and value."""

    refers = True
    kl_limit = 10.0
    """Nats per answer."""

    def __init__(self, config: c.Ppo) -> None:
        self.config = config
        self.coefficient = config.kl_coefficient

    def prepare(self, buffer: Buffer, rewards_N: Tensor, cut_N: Tensor) -> None:
        """Computes `advantages` and `returns` by token, and the coefficient of the KL penalty for the next rollout."""
        config, mask_NT = self.config, buffer.mask_NT
        divergence_NT = k1(buffer.of_token["old"], buffer.of_token["reference"]) * mask_NT
        by_answer_N = divergence_NT.sum(1)
        score_N = rewards_N - config.missing_eos_penalty * cut_N
        # The penalty is paid at each token, the score of the answer once, at its last token.
        rewards_NT = -self.coefficient * divergence_NT + score_N[:, None] * mark_last(mask_NT)
        if config.whiten_rewards:
            rewards_NT = whiten(rewards_NT, mask_NT, shift=False)
        values_NT = buffer.of_token["values"] * mask_NT
        advantages_NT, returns_NT = gae(rewards_NT, values_NT, mask_NT, discount=config.gamma_discount,
            smoothing=config.gae_lambda)
        # Before the advantages are whitened, `returns` has taken them: the value head learns rewards, not their scale.
        if config.whiten_advantages:
            advantages_NT = whiten(advantages_NT, mask_NT)
        buffer.of_token |= {"advantages": advantages_NT, "returns": returns_NT}
        kl, answers = float(by_answer_N.mean()), len(buffer.rows)
        buffer.record |= {
            "train/kl": kl, "kl_error": float(by_answer_N.std()) / answers**0.5 if answers > 1 else 0.0,
            "train/kl_coefficient": self.coefficient, "train/value": float(masked_mean(values_NT, mask_NT)),
        }
        # Last: the coefficient of this rollout has been used and recorded.
        if config.kl_control is c.KlControl.adaptive:
            self.coefficient = adapt_coefficient(
                self.coefficient, kl, target=config.kl_target, answers=answers, horizon=config.kl_horizon
            )

    def compute_divisor(self, buffer: Buffer, answers: list[int]) -> float:
        """Returns the number of tokens of the step."""
        return float(buffer.count_tokens(answers))

    def compute_loss(self, batch: Batch, new_BT: Tensor, values_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the summed loss of policy and value, and the clipped tokens."""
        config, mask_BT = self.config, (batch["targets"] != IGNORE).float()
        losses_BT, clipped_BT = clipped_policy(
            new_BT, batch["old"], batch["advantages"], low=config.clip_low, high=config.clip_high
        )
        value_BT = clipped_value(values_BT, batch["values"], batch["returns"], clip=config.value_clip)
        return sum_losses(losses_BT + config.vf_coef * value_BT, mask_BT, by_answer=False), clipped_BT

    def get_state(self) -> dict[str, Any]:
        """Returns the coefficient, which may have changed."""
        return {"coefficient": self.coefficient}

    def load(self, state: dict[str, Any]) -> None:
        """Restores the coefficient."""
        self.coefficient = float(state["coefficient"])


def mark_last(mask_NT: Tensor) -> Tensor:
    """Returns 1.0 at the last position of each answer, 0 elsewhere."""
    # The mask moved by one to the left: a position is the last if the one after it is not in the mask.
    after_NT = functional.pad(mask_NT, (0, 1))[:, 1:]
    return mask_NT * (1 - after_NT)


class PpoStage(PolicyStage):
    """The policy with its value head, whose estimates are 0 at first."""

    objective_type = Proximal

    def build_parts(self) -> None:
        """Builds the policy's parts and the value head."""
        super().build_parts()
        self.value_head = nn.Linear(self.scorer.width, 1, dtype=self.dtypes.trained)
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)

    def values(self, hidden_BTD: Tensor) -> Tensor:
        """Returns the values in float32, for every compute type."""
        with torch.autocast(hidden_BTD.device.type, enabled=False):
            head = self.value_head
            return functional.linear(hidden_BTD.float(), head.weight.float(), head.bias.float())[..., 0]
