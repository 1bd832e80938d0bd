"""The losses of the DPO family: usual values, the parameters that each uses, and its source. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fulgurite.config.described import DescribedEnum
from fulgurite.config.losses import Loss, list_loss_meanings, list_losses, register_loss
from fulgurite.config.schema import Range
from fulgurite.language.message import UserMessage, message


class ReferenceMode(DescribedEnum):
    """The source of the reference's log-probabilities."""

    adapter = "adapter", "The same model with its adapter switched off; takes no memory."
    copy = "copy", "A frozen second model in memory."
    precomputed = "precomputed", "Computed once before training, so that no reference is needed while it trains."


USUAL = Range(0.01, 0.5)
MEANINGS = {
    "sigmoid": "DPO's own: the log-sigmoid of the margin between the two answers.",
    "hinge": "Learns until the margin reaches 1 / beta, and then leaves the pair alone.",
    "ipo": "Pulls the margin to a fixed size, so that it cannot grow without end.",
    "robust": "DPO for labels of which a known share is wrong (stage.label_smoothing).",
    "exo_pair": "Matches the policy's own distribution over the two answers with smoothed labels.",
    "nca_pair": "Keeps the chosen answer likely, besides the margin.",
    "bco_pair": "Classifies each answer as good or bad, against a running mean of the rewards.",
    "sppo_hard": "Pulls each answer's log ratio to a fixed target: up for chosen, down for rejected.",
    "aot": "Compares the sorted margins of a whole step instead of single pairs.",
    "discopop": "A mixture of logistic and exponential loss, found by a search.",
    "apo_zero": "Makes chosen answers more likely and rejected answers less likely.",
    "apo_down": "Makes both answers less likely, the rejected one more: for data worse than the model.",
    "orpo": "SFT plus an odds-ratio penalty; needs no reference.",
    "simpo": "Log-probabilities per token and a target margin; needs no reference.",
    "cpo": "DPO without a reference, plus SFT on the chosen answer.",
}
"""What each of our losses does, in a sentence."""


@dataclass(frozen=True, slots=True)
class PreferenceLoss(Loss):
    """The declaration of a loss of the DPO family: its `stage.beta` and the other parameters that it uses, each with
    its usual value.

    A parameter of None is not used, and refused if it is given. The formula gets `(chosen_B, rejected_B, beta)`, the
    log ratios of whole answers in nats (of mean log-probabilities per token if `averaged`), and by name `smoothing`,
    `gamma` and `tau` if it uses them.
    """

    beta: float = 0.1
    usual: Range = USUAL
    """The usual range of `stage.beta`."""
    weight: str = "beta"
    """The stage's parameter that `beta` and `usual` belong to: another one if it is not a penalty for moving away from
    a reference."""
    smoothing: float | None = None
    gamma_share: float | None = None
    """SimPO's margin as a share of beta."""
    tau: float | None = None
    reference: bool = True
    averaged: bool = False
    """Whether it uses log-probabilities per token: sums are divided by the answers' lengths, unless
    `stage.length_normalize` is false."""
    normalizes: bool = False
    """Whether the loss uses `stage.length_normalize`: it is defined for sums and for means."""
    normalized: PreferenceLoss | None = None
    """Its declaration with `stage.length_normalize`, if that is another one."""
    log_smoothing: bool = False
    """Whether it uses the logarithm of `smoothing`, which must then be above 0."""
    span: float = 4.0
    """How far `explain stage=dpo --plot` draws the margin to both sides, times 1 / beta."""
    two_sided: bool = False
    """Whether it is a loss of two numbers; it is drawn along the line on which the chosen answer rises as the
    rejected falls."""
    ranked: bool = False
    """Whether the formula gets margins of the policy and of the reference, paired by their rank in the whole step."""
    shifted: bool = False
    """Whether the formula gets the running mean of the rewards as `shift`."""
    likelihood: bool = False


FAMILY = "dpo"


def get_row(name: str, normalized: bool | None = None) -> PreferenceLoss:
    """Returns the declaration of a loss; `normalized` is `stage.length_normalize`. Raises KeyError for a name that is
    not registered."""
    found = list_losses(FAMILY)[name]
    assert isinstance(found, PreferenceLoss)
    return found.normalized if normalized and found.normalized is not None else found


def find_usual_beta(run: Any) -> Range | None:
    """Returns what is usual for `stage.beta` with the run's loss; None if the loss does not read it."""
    found = get_row(run.stage.loss, run.stage.length_normalize)
    return found.usual if found.weight == "beta" else None


def find_usual_gamma(run: Any) -> Range | None:
    """Returns 0 to beta, which is a ratio gamma / beta of 0 to 1; None if the loss does not read gamma."""
    found = get_row(run.stage.loss, run.stage.length_normalize)
    return None if found.gamma_share is None else Range(0, run.stage.beta or found.beta)


def list_names() -> dict[str, str]:
    """Returns the losses of the family with what each does, ours first."""
    return list_loss_meanings(FAMILY)


def list_normalizing() -> list[str]:
    """Returns the losses that use `stage.length_normalize`."""
    return [name for name in list_names() if get_row(name).normalizes]


def list_reading(parameter: str) -> list[str]:
    """Returns the losses that use a parameter, by its name in `PreferenceLoss`."""
    return [name for name in list_names() if getattr(get_row(name), parameter) is not None]


def _register(name: str, beta: float, usual: Range, source: UserMessage, **declared: Any) -> None:
    formula = f"fulgurite.loss.preference:{name}"
    register_loss(
        FAMILY, name, PreferenceLoss(formula, source, MEANINGS[name], beta=beta, usual=usual, **declared)
    )


NORMALIZED = PreferenceLoss(
    "fulgurite.loss.preference:sigmoid", message("Tülu 3: 5 with log-probabilities per token (verified)"),
    beta=5.0, usual=Range(2, 10), smoothing=0.0, averaged=True, normalizes=True,
)
"""The sigmoid loss with `stage.length_normalize`."""

_register(
    "sigmoid", 0.1, Range(0.01, 0.5), message("DPO 0.1, Zephyr 0.01, SmolLM2 0.5 (verified)"),
    smoothing=0.0, normalizes=True, normalized=NORMALIZED,
)
_register(
    "hinge", 0.05, Range(0.05, 1), message("RSO 0.05, of which 1/beta is the margin (TRL's index of papers)"),
    reaches_zero=True, span=2.0,
)
_register(
    "ipo", 0.1, Range(0.01, 1), message("IPO 0.1, the paper's τ (TRL's index of papers)"),
    averaged=True, normalizes=True, squared=True, span=1.0,
)
_register("robust", 0.1, Range(0.01, 0.5), message("rDPO 0.1 (TRL's index of papers)"), smoothing=0.1)
_register(
    "exo_pair", 0.1, Range(0.01, 0.5), message("EXO 0.1 (TRL's index of papers)"), smoothing=0.001, log_smoothing=True,
)
_register("nca_pair", 0.01, Range(0.001, 0.1), message("NCA 0.01 (TRL's index of papers)"), span=6.0, two_sided=True)
_register(
    "bco_pair", 0.01, Range(0.001, 0.1), message("BCO 0.01 (TRL's index of papers)"), shifted=True, span=6.0,
    two_sided=True,
)
_register(
    "sppo_hard", 0.001, Range(0.0001, 0.01), message("SPPO 0.001, which is 1/η (TRL's index of papers)"),
    squared=True, span=2.0, two_sided=True,
)
_register("aot", 0.01, Range(0.001, 0.1), message("AOT 0.01 (TRL's index of papers)"), smoothing=0.0, ranked=True)
_register("discopop", 0.05, Range(0.01, 0.5), message("DiscoPOP 0.05 (TRL's index of papers)"), tau=0.05, span=2.0)
_register("apo_zero", 0.1, Range(0.01, 0.5), message("APO 0.1, SmolLM3 0.05 (verified)"), two_sided=True)
_register("apo_down", 0.1, Range(0.01, 0.5), message("APO 0.1 (verified)"), lowers_chosen=True, two_sided=True)
_register(
    "orpo", 0.1, Range(0.05, 0.2), message("ORPO's λ 0.1 (verified)"),
    weight="orpo_weight", sft_weight=1.0, reference=False, averaged=True, two_sided=True,
)
_register(
    "simpo", 2.0, Range(2, 10), message("SimPO 2 to 10 (verified)"),
    smoothing=0.0, gamma_share=0.5, reference=False, averaged=True,
)
_register("cpo", 0.1, Range(0.05, 0.5), message("CPO 0.1 (verified)"), smoothing=0.0, sft_weight=1.0, reference=False)
