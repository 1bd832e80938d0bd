"""What each preference loss is told where nothing is said, what is usual, which knobs it reads, and who says so. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from fulgurite.config.schema import Range


class PreferenceLoss(StrEnum):
    """What is made small in preference training."""

    sigmoid = "sigmoid"
    hinge = "hinge"
    ipo = "ipo"
    robust = "robust"
    exo_pair = "exo_pair"
    nca_pair = "nca_pair"
    bco_pair = "bco_pair"
    sppo_hard = "sppo_hard"
    aot = "aot"
    discopop = "discopop"
    apo_zero = "apo_zero"
    apo_down = "apo_down"
    orpo = "orpo"
    simpo = "simpo"
    cpo = "cpo"


class ReferenceMode(StrEnum):
    """Where the reference's log-probabilities come from."""

    adapter = "adapter"
    copy = "copy"
    precomputed = "precomputed"


@dataclass(frozen=True, slots=True)
class Row:
    """One loss: its `stage.beta`, other knobs that it reads, with their values where nothing is said (a knob of none is unread)."""

    beta: float
    usual: Range
    source: str
    smoothing: float | None = None
    gamma_share: float | None = None
    """SimPO's margin as a share of beta."""
    tau: float | None = None
    sft_weight: float = 0.0
    reference: bool = True
    averaged: bool = False
    """Whether it is about log-probabilities a token: the answers' lengths are divided out, if nobody says otherwise."""
    normalizes: bool = False
    """Whether the loss reads `stage.length_normalize`: it is defined for sums and for means."""


TABLE: dict[PreferenceLoss, Row] = {
    PreferenceLoss.sigmoid: Row(0.1, Range(0.01, 0.5), "DPO 0.1, Zephyr 0.01, SmolLM2 0.5 (verified)", smoothing=0.0, normalizes=True),
    PreferenceLoss.hinge: Row(0.05, Range(0.05, 1), "RSO 0.05, of which 1/beta is the margin (TRL's index of papers)"),
    PreferenceLoss.ipo: Row(0.1, Range(0.01, 1), "IPO 0.1, the paper's τ (TRL's index of papers)", averaged=True, normalizes=True),
    PreferenceLoss.robust: Row(0.1, Range(0.01, 0.5), "rDPO 0.1 (TRL's index of papers)", smoothing=0.1),
    PreferenceLoss.exo_pair: Row(0.1, Range(0.01, 0.5), "EXO 0.1 (TRL's index of papers)", smoothing=1e-3),
    PreferenceLoss.nca_pair: Row(0.01, Range(0.001, 0.1), "NCA 0.01 (TRL's index of papers)"),
    PreferenceLoss.bco_pair: Row(0.01, Range(0.001, 0.1), "BCO 0.01 (TRL's index of papers)"),
    PreferenceLoss.sppo_hard: Row(0.001, Range(1e-4, 0.01), "SPPO 0.001, which is 1/η (TRL's index of papers)"),
    PreferenceLoss.aot: Row(0.01, Range(0.001, 0.1), "AOT 0.01 (TRL's index of papers)", smoothing=0.0),
    PreferenceLoss.discopop: Row(0.05, Range(0.01, 0.5), "DiscoPOP 0.05 (TRL's index of papers)", tau=0.05),
    PreferenceLoss.apo_zero: Row(0.1, Range(0.01, 0.5), "APO 0.1, SmolLM3 0.05 (verified)"),
    PreferenceLoss.apo_down: Row(0.1, Range(0.01, 0.5), "APO 0.1 (verified)"),
    PreferenceLoss.orpo: Row(
        0.1, Range(0.05, 0.2), "ORPO's λ 0.1 (verified)", sft_weight=1.0, reference=False, averaged=True,
    ),
    PreferenceLoss.simpo: Row(
        2.0, Range(2, 10), "SimPO 2 to 10 (verified)", smoothing=0.0, gamma_share=0.5, reference=False, averaged=True,
    ),
    PreferenceLoss.cpo: Row(0.1, Range(0.05, 0.5), "CPO 0.1 (verified)", smoothing=0.0, sft_weight=1.0, reference=False),
}

NORMALIZED = Row(5.0, Range(2, 10), "Tülu 3: 5 with log-probabilities a token (verified)", smoothing=0.0, averaged=True, normalizes=True)
"""The sigmoid loss with `stage.length_normalize`."""


def row(loss: PreferenceLoss, normalized: bool | None = None) -> Row:
    """The loss's row; `normalized` is `stage.length_normalize`."""
    return NORMALIZED if normalized and loss is PreferenceLoss.sigmoid else TABLE[loss]


def normalizing() -> list[str]:
    """The losses that read `stage.length_normalize`."""
    return [str(loss) for loss, found in TABLE.items() if found.normalizes]


def reading(knob: str) -> list[str]:
    """The losses that read a knob, by its name in `Row`."""
    return [str(loss) for loss, found in TABLE.items() if getattr(found, knob) is not None]
