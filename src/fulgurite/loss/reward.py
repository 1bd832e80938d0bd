"""The loss of a reward model. Shapes: B pairs; the reward of an answer is one number."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import logsigmoid


def bradley_terry(chosen_B: Tensor, rejected_B: Tensor, margin_B: Tensor | None = None, center: float = 0.0) -> Tensor:
    """Returns the loss of each pair, loss_B: -log σ(chosen - rejected - margin) + center · (chosen + rejected)².

    Margin: Llama 2, Touvron et al., https://arxiv.org/abs/2307.09288. Comparisons do not determine the mean reward;
    the centering term keeps it near 0: Eisenstein et al., https://arxiv.org/abs/2312.09244.
    """
    # The margin moves the loss of a pair, not its rewards: a clear preference must be won by more.
    gap_B = chosen_B - rejected_B if margin_B is None else chosen_B - rejected_B - margin_B
    loss_B = -logsigmoid(gap_B)
    return loss_B + center * (chosen_B + rejected_B) ** 2 if center else loss_B
