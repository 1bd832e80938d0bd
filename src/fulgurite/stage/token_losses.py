"""The losses of supervised fine-tuning, with their declarations. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from fulgurite.config.losses import Loss, list_loss_meanings, register_loss

FAMILY = "sft"


@dataclass(frozen=True, slots=True)
class TokenLoss(Loss):
    """The declaration of a loss of `stage=sft`.

    The formula gets the log-probability of each target, logp_N in nats and float32, and returns loss_N, each of which
    depends only on its own position; a step's loss is their mean. Without a formula the loss is the negative
    log-likelihood, whose gradients are computed in the same pass. The validation loss is always the negative
    log-likelihood, so that runs can be compared.
    """

    weighted: bool = False
    """Without a formula: whether each token's term is weighted by its probability, through which no gradient flows."""
    likelihood: bool = False


def list_names() -> dict[str, str]:
    """Returns the losses of the family with what each does, ours first."""
    return list_loss_meanings(FAMILY)


register_loss(FAMILY, "nll", TokenLoss(
    source="Maximum likelihood", likelihood=True,
    meaning="The negative log-likelihood: every learned token counts the same.",
))
register_loss(FAMILY, "dft", TokenLoss(
    source="DFT, Wu et al., https://arxiv.org/abs/2508.05629", weighted=True,
    meaning="The negative log-likelihood times the token's probability: unlikely tokens are learned less.",
))
