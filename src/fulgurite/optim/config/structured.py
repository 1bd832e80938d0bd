"""Optimizers that treat matrices, blocks of layers or the weights' average in a way of their own."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from fulgurite.config.confidence import Sure
from fulgurite.config.schema import Derived, Empty, Range, above, at_least, below, between, knob, option
from fulgurite.optim import default_lrs as rates
from fulgurite.optim.block_schedule import Order, build_blocks
from fulgurite.optim.config.base import Optim, without_adapters
from fulgurite.optim.config.elementwise import AdamW

if TYPE_CHECKING:
    from fulgurite.config.run import RunConfig


class MuonScale(StrEnum):
    """What a rate means to Muon."""

    rms = "rms"
    own = "own"


@option("optim", "muon")
@dataclass(slots=True)
class Muon(AdamW):
    """Makes each matrix's step orthogonal; embeddings, head, norms and biases go by AdamW (`betas` and `eps` are
    its). For pre-training.

    Its authors doubt it for fine-tuning a model that Adam trained.
    """

    builds: ClassVar[str] = "fulgurite.optim.muon:build"
    lr_factor: ClassVar[tuple[float, str]] = (
        1.0, "RMS matching gives its steps AdamW's size, https://arxiv.org/abs/2502.16982 and torch's docs (verified)",
    )
    alone: ClassVar[bool] = False
    costs: ClassVar[str] = "4 bytes of state for a matrix; 15 products of matrices a step."

    momentum: float = knob(
        0.95,
        "The share of the running mean that is kept from step to step, under Nesterov's look ahead.",
        source="Muon, Jordan, https://kellerjordan.github.io/posts/muon/; torch's default",
        bounds=below(0, 1),
        usual=between(0.9, 0.98),
        advice="Leave it.",
        leave="Its author's value; only pre-training has been tuned.",
    )
    ns_steps: int = knob(
        5,
        "How often the iteration that makes a step orthogonal is repeated.",
        source="Muon, Jordan, https://kellerjordan.github.io/posts/muon/; torch's default",
        bounds=between(1, 20),
        usual=between(4, 6),
        advice="Leave it: each costs three products of matrices.",
        leave="Five make a matrix orthogonal enough.",
        time="Each costs three products of matrices a step.",
    )
    scale: MuonScale = knob(
        MuonScale.rms,
        "Whether a step gets the size of AdamW's, so that its rates hold, or Muon's own, which wants about 0.02.",
        source=(
            "0.2 times the root of the longer side: Moonlight, https://arxiv.org/abs/2502.16982; torch's "
            "match_rms_adamw"
        ),
        advice="rms, unless you repeat a recipe that says otherwise.",
    )
    adam_lr: float | None = knob(
        None,
        "The peak rate of what goes by AdamW.",
        source="Muon's README: two rates, each tuned on its own (verified)",
        bounds=above(0, 1),
        usual=rates.usual_adam,
        advice="Leave it under optim.scale=rms.",
        empty=Empty("optim.lr under optim.scale=rms, else AdamW's rate from the table", rates.recommend_adam),
        raise_when="When embeddings and norms learn too slowly.",
        lower_when="When the loss spikes though optim.lr is low.",
        interacts={"optim.scale": "under rms it is optim.lr", "optim.lr": "the rate of the matrices"},
    )

    def own_rate(self) -> tuple[Derived, Range] | None:
        return (rates.MUON_OWN, rates.MUON_OWN_USUAL) if self.scale is MuonScale.own else None

    def state_bytes(self, shape: tuple[int, ...], width: int, hidden: bool = True) -> int:
        """One running mean for a matrix inside the model that is wider than one, AdamW's state for the rest."""
        if hidden and len(shape) == 2 and min(shape) > 1:
            return width * math.prod(shape)
        return AdamW.state_bytes(self, shape, width, hidden)

    def find_refusal(self, run: RunConfig) -> str | None:
        """LoRA's factors are never Muon's."""
        return without_adapters(
            self, run, "an adapter's factors are no matrices of the model, and nothing would be left for Muon"
        )


@option("optim", "schedule_free")
@dataclass(slots=True)
class ScheduleFree(Optim):
    """AdamW that averages its weights in place of a falling rate. For runs whose length is not known: every
    checkpoint is an end.

    It trains one set of weights and evaluates, samples and saves another, their average.
    """

    builds: ClassVar[str] = "fulgurite.optim.schedule_free:build"
    lr_factor: ClassVar[tuple[float, str]] = (2.0, "schedulefree's README says 1 to 10 times (verified); 2 is ours")
    averages: ClassVar[bool] = True
    starts_together: ClassVar[bool] = True
    scratch: ClassVar[tuple[float, float]] = (4.0, 4.0)
    costs: ClassVar[str] = "8 bytes of state a trained weight; an evaluation copies the weights."

    betas: list[float] = knob(
        [0.9, 0.999],
        "How near to the average the gradient is taken, and how long the running variance remembers.",
        source=(
            "The Road Less Scheduled, Defazio et al., https://arxiv.org/abs/2405.15682; schedulefree's README "
            "(verified)"
        ),
        bounds=Range(0, 1, open_low=True, open_high=True),
        usual=between(0.9, 0.999),
        advice="[0.95, 0.999] or [0.98, 0.999] in long runs.",
        raise_when="The first to 0.95 or 0.98 in long runs.",
        lower_when="When the average lags behind in a short run.",
        interacts={"scheduler.warmup_ratio": "it wants a warmup, and no falling rate"},
    )
    eps: float = knob(
        1e-8,
        "A small number that keeps the division by the root of the variance finite.",
        source="schedulefree's default (verified)",
        bounds=above(0),
        usual=between(1e-8, 1e-6),
        advice="Leave it.",
        leave="It matters only where gradients are as small as it is.",
    )

    def state_bytes(self, shape: tuple[int, ...], width: int, hidden: bool = True) -> int:
        """A second set of weights and a variance; an evaluation copies the weights for as long as it lasts."""
        return 2 * width * math.prod(shape)

    def find_refusal(self, run: RunConfig) -> str | None:
        """A falling rate, and an average that bf16 cannot hold."""
        if run.scheduler.falls:
            return (
                f"optim={self.name} averages weights in place of a falling rate, and scheduler={run.scheduler.name} "
                "would lower it as well; take scheduler=constant_with_warmup."
            )
        if run.precision.low_weights:
            return (
                f"optim={self.name} averages by steps that weights of precision={run.precision.name} round away; take "
                f"precision=bf16."
            )
        return None


@dataclass(slots=True)
class Projected(AdamW):
    """What GaLore and APOLLO share: Adam's moments of a projection of each matrix's gradient."""

    rank: int = knob(
        128,
        "How many rows or columns of each matrix's gradient Adam's state sees; smaller matrices go by AdamW whole.",
        source="GaLore's README 128, LLaMA-Factory 16 (verified)",
        bounds=at_least(1),
        usual=(16, 64, 128, 256),
        advice="Lower it for memory, raise it when the loss lies above AdamW's.",
        raise_when="When the loss lies above AdamW's.",
        lower_when="When memory is short.",
        interacts={
            "optim.scale": "the step grows with both",
            "optim.update_proj_gap": "a low rank wants to be chosen anew more often",
        },
        memory="State grows in proportion to it.",
    )
    update_proj_gap: int = knob(
        200,
        "After how many steps the projection is chosen anew.",
        source="GaLore's and APOLLO's READMEs, LLaMA-Factory 200 (verified)",
        bounds=at_least(1),
        usual=between(50, 1000),
        advice="Leave it. GaLore takes an SVD of every matrix each time: 15 s at 135M (CPU).",
        raise_when="When choosing the projection takes a visible share of the time.",
        lower_when="When the loss stops falling between two choices.",
        time="GaLore takes an SVD of each matrix at every choice.",
    )

    def projects(self, shape: tuple[int, ...], hidden: bool) -> bool:
        """Whether a parameter of this shape is projected."""
        return hidden and len(shape) == 2 and min(shape) > self.rank


@option("optim", "galore")
@dataclass(slots=True)
class Galore(Projected):
    """AdamW on gradients projected to a low rank by their own SVD: trains every weight with LoRA's state. For full
    fine-tuning."""

    builds: ClassVar[str] = "fulgurite.optim.galore:build"
    lr_factor: ClassVar[tuple[float, str]] = (1.0, "1e-5 in LLaMA-Factory's example, as AdamW there (verified)")
    starts_together: ClassVar[bool] = True
    alone: ClassVar[bool] = False
    scratch: ClassVar[tuple[float, float]] = (8.0, 4.0)
    costs: ClassVar[str] = "Full gradients, but a small state; an SVD of every matrix now and then."
    misread: ClassVar[str] = "It trains every weight. It is no adapter, though its rank reminds of LoRA's."

    eps: float = knob(
        1e-6,
        "A small number that keeps the division by the root of the variance finite.",
        source="GaLore's code and pytorch-optimizer",
        bounds=above(0),
        usual=between(1e-8, 1e-6),
        advice="Leave it.",
        sure=Sure.practice,
        leave="It matters only where gradients are as small as it is.",
    )
    scale: float = knob(
        2.0,
        "A factor on the step of a projected matrix.",
        source=(
            "GaLore, Zhao et al., https://arxiv.org/abs/2403.03507: 0.25 in pre-training; LLaMA-Factory 2 in "
            "fine-tuning (verified)"
        ),
        bounds=above(0),
        usual=between(0.25, 4),
        advice="0.25 to train from nothing, 2 to 4 to fine-tune.",
        raise_when="When the loss falls more slowly than AdamW's at the same rate.",
        lower_when="To train from nothing: 0.25.",
        interacts={"optim.lr": "both multiply the step"},
    )

    def state_bytes(self, shape: tuple[int, ...], width: int, hidden: bool = True) -> int:
        """A projected matrix keeps two moments of rank times its longer side, and its projection, rank times the
        shorter."""
        if self.projects(shape, hidden):
            return width * self.rank * (2 * max(shape) + min(shape))
        return 2 * width * math.prod(shape)

    def find_refusal(self, run: RunConfig) -> str | None:
        """An adapter's factors are of low rank already."""
        return without_adapters(
            self, run, "an adapter's factors are of low rank already, and nothing is left to project"
        )


@option("optim", "apollo")
@dataclass(slots=True)
class Apollo(Projected):
    """The whole gradient, each channel scaled as Adam scales a random projection of it: GaLore's state without its SVD.

    For full fine-tuning in little memory, before galore.
    """

    builds: ClassVar[str] = "fulgurite.optim.apollo:build"
    lr_factor: ClassVar[tuple[float, str]] = (1.0, "1e-5 in LLaMA-Factory's example, as AdamW there (verified)")
    alone: ClassVar[bool] = False
    costs: ClassVar[str] = "Full gradients, but a small state; no SVD."

    rank: int = knob(
        16,
        "How many rows or columns the random projection has in which Adam's state lives; smaller matrices go by AdamW "
        "whole.",
        source="LLaMA-Factory 16 (verified); the paper a quarter of the width (unverified)",
        bounds=at_least(1),
        usual=(16, 64, 128, 256),
        advice="Lower it for memory; divide optim.scale by what you multiply it by.",
        raise_when="When the loss lies above AdamW's.",
        lower_when="When memory is short: even 1 works.",
        interacts={"optim.scale": "divide it by what the rank is multiplied by"},
        memory="State grows in proportion to it.",
    )
    scale: float = knob(
        32.0,
        "The square of a factor on the step of a projected matrix: about its shorter side divided by the rank.",
        source=(
            "APOLLO, Zhu et al., https://arxiv.org/abs/2412.05270; its authors in LLaMA-Factory 32, at rank 1 128 "
            "(verified)"
        ),
        bounds=above(0),
        usual=between(1, 128),
        advice="Raise it fourfold where the loss falls too slowly: that doubles the step.",
        raise_when="Fourfold when the loss falls too slowly: that doubles the step.",
        lower_when="On spikes.",
        interacts={"optim.rank": "scale times rank should stay", "optim.lr": "both multiply the step"},
    )

    def state_bytes(self, shape: tuple[int, ...], width: int, hidden: bool = True) -> int:
        """A projected matrix keeps two moments of rank times its longer side, and one fp32 norm. The projection is
        drawn anew each step."""
        if self.projects(shape, hidden):
            return width * 2 * self.rank * max(shape) + 4
        return AdamW.state_bytes(self, shape, width, hidden)

    def find_refusal(self, run: RunConfig) -> str | None:
        """An adapter's factors are of low rank already."""
        return without_adapters(
            self, run, "an adapter's factors are of low rank already, and nothing is left to project"
        )


@option("optim", "badam")
@dataclass(slots=True)
class Badam(AdamW):
    """AdamW on one block of layers at a time: state and gradients for one alone. For full fine-tuning in little
    memory."""

    builds: ClassVar[str] = "fulgurite.optim.badam:build"
    lr_factor: ClassVar[tuple[float, str]] = (1.0, "1e-5 in LLaMA-Factory's example, as AdamW there (verified)")
    starts_together: ClassVar[bool] = True
    alone: ClassVar[bool] = False
    costs: ClassVar[str] = "State for one block alone; the others stand still meanwhile."

    switch_every: int = knob(
        50,
        "How many steps a block is trained before the next takes its turn, with fresh state.",
        source="BAdam, Luo et al., https://arxiv.org/abs/2404.02827; LLaMA-Factory 50 (verified)",
        bounds=at_least(1),
        usual=between(20, 100),
        advice="Lower it in short runs: a run should visit each block, at least once.",
        raise_when="When each block's loss is still falling at its end.",
        lower_when="In short runs, so that each block has its turn.",
        interacts={"trainer.epochs": "the run should visit every block"},
    )
    switch_mode: Order = knob(
        Order.ascending,
        "Which block is next: from the embeddings up, from the head down, or each once in an order drawn anew each "
        "round.",
        source="BAdam's code and LLaMA-Factory's badam_switch_mode",
        advice="descending in short runs: upper layers change answers most.",
    )

    def state_bytes(self, shape: tuple[int, ...], width: int, hidden: bool = True) -> int:
        """AdamW's while the parameter's block is trained, nothing at other times."""
        return AdamW.state_bytes(self, shape, width, hidden)

    def total_state_bytes(self, shapes: Mapping[str, tuple[int, ...]], width: int, hidden: Collection[str]) -> int:
        """The largest block's."""
        blocks = build_blocks({name: len(shape) for name, shape in shapes.items()})
        return max((sum(self.state_bytes(shapes[name], width) for name in block) for block in blocks), default=0)

    def find_refusal(self, run: RunConfig) -> str | None:
        """An adapter has little state to save, and processes must agree on what has gradients."""
        if run.world_size > 1:
            return (
                f"optim={self.name} cannot be used with {run.world_size} processes: they wait for gradients of blocks "
                f"that rest; "
                "take trainer.devices=1, or optim=adamw."
            )
        return without_adapters(self, run, "an adapter's state is small already, and most of it would rest")


@option("optim", "adam_mini")
@dataclass(slots=True)
class AdamMini(AdamW):
    """AdamW with one variance a row of a matrix, in place of one a number: half of Adam's state at AdamW's rate."""

    builds: ClassVar[str] = "fulgurite.optim.adam_mini:build"
    lr_factor: ClassVar[tuple[float, str]] = (
        1.0,
        "1e-5 in LLaMA-Factory's example, as AdamW there; the paper: AdamW's (verified)",
    )
    alone: ClassVar[bool] = False
    scratch: ClassVar[tuple[float, float]] = (4.0, 12.0)
    costs: ClassVar[str] = "About 4 bytes of state a trained weight."

    def state_bytes(self, shape: tuple[int, ...], width: int, hidden: bool = True) -> int:
        """One running mean, and an fp32 variance a row; a vector has one in all."""
        return width * math.prod(shape) + 4 * (shape[0] if len(shape) > 1 else 1)
