"""`stage=rm`: a reward model, trained on pairs. Shapes: B pairs, S = 2B answers (chosen first, then rejected)."""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor

from fulgurite.loss.reward import bradley_terry
from fulgurite.model.reward_head import compute_rewards
from fulgurite.stage.base import Batch, StageModule


class RewardStage(StageModule):
    """Bradley-Terry loss of the rewards of both sides; mean and standard deviation are those of all answers."""

    measures: ClassVar[tuple[str, ...]] = ("accuracy", "reward_margin", "reward_mean", "reward_std")

    def loss_units(self, batch: Batch) -> int:
        """Returns the number of pairs."""
        return len(batch["rows"])

    def compute_total_loss(self, batch: Batch) -> Tensor:
        """Returns the sum over the micro-batch's pairs."""
        reward_S = compute_rewards(self.model, batch["input_ids"], batch["lengths"], unpadded=batch.get("unpadded"))
        chosen_B, rejected_B = reward_S.chunk(2)
        seen_S, pairs = reward_S.detach().double(), len(chosen_B)
        self.accumulate_metric("accuracy", (chosen_B > rejected_B).sum(), pairs)
        self.accumulate_metric("reward_margin", (chosen_B - rejected_B).detach().sum(), pairs)
        self.observe((chosen_B - rejected_B).detach())
        self.accumulate_metric("reward_mean", seen_S.sum(), 2 * pairs)
        self.accumulate_metric("reward_std", (seen_S**2).sum(), 2 * pairs)
        return bradley_terry(chosen_B, rejected_B, batch["margins"], self.run.stage.center_rewards_coefficient).sum()

    def reduce_metrics(self) -> dict[str, float]:
        """Computes the standard deviation from the mean of squares, which can be summed over micro-batches and
        processes."""
        found = super().reduce_metrics()
        if "reward_std" in found:
            found["reward_std"] = math.sqrt(max(found["reward_std"] - found["reward_mean"] ** 2, 0.0))
        return found
