"""Optimizers that treat matrices, blocks of layers or the average of the weights separately."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fulgurite.config.confidence import Sure
from fulgurite.config.described import DescribedEnum
from fulgurite.config.schema import Derived, Empty, Range, above, at_least, below, between, knob, option
from fulgurite.language.message import UserMessage, message
from fulgurite.optim import default_lrs as rates
from fulgurite.optim.block_schedule import Order, build_blocks
from fulgurite.optim.config.base import Optim, without_adapters
from fulgurite.optim.config.elementwise import AdamW

if TYPE_CHECKING:
    from fulgurite.config.run import RunConfig


class MuonScale(DescribedEnum):
    """The size of Muon's updates."""

    rms = "rms", "Updates as large as AdamW's, so that AdamW's learning rates fit."
    own = "own", "Updates of Muon's own size; needs its own, larger learning rate."


@option("optim", "muon")
@dataclass(slots=True)
class Muon(AdamW):
    """Makes the update of each matrix orthogonal; AdamW updates embeddings, head, norms and biases, with `betas` and
    `eps`. For pre-training.

    Its authors doubt that it helps to fine-tune a model that Adam trained.
    """

    builds: ClassVar[str] = "fulgurite.optim.muon:build"
    lr_factor: ClassVar[tuple[float, str]] = (
        1.0, "RMS matching gives updates of AdamW's size, https://arxiv.org/abs/2502.16982 and torch's docs (verified)",
    )
    alone: ClassVar[bool] = False
    costs: ClassVar[str] = "4 bytes of state per weight of a matrix; 15 matrix products per step."

    momentum: float = knob(
        0.95,
        "Decay rate of the running mean of the gradient, with Nesterov momentum.",
        source="Muon, Jordan, https://kellerjordan.github.io/posts/muon/; torch's default",
        bounds=below(0, 1),
        usual=between(0.9, 0.98),
        advice="Leave it.",
        leave="The author's value; it has been tuned only in pre-training.",
    )
    ns_steps: int = knob(
        5,
        "Number of Newton-Schulz iterations that make an update orthogonal.",
        source="Muon, Jordan, https://kellerjordan.github.io/posts/muon/; torch's default",
        bounds=between(1, 20),
        usual=between(4, 6),
        advice="Leave it.",
        leave="Five make a matrix orthogonal enough.",
        time="Each costs three matrix products per step.",
    )
    scale: MuonScale = knob(
        MuonScale.rms,
        "Size of an update: rms gives it the size of AdamW's, so that AdamW's rates apply; own needs a rate of about "
        "0.02.",
        source=(
            "0.2 times the root of the longer side: Moonlight, https://arxiv.org/abs/2502.16982; torch's "
            "match_rms_adamw"
        ),
        advice="rms, unless you repeat a recipe that uses own.",
    )
    adam_lr: float | None = knob(
        None,
        "Peak learning rate of the parameters that AdamW updates.",
        source="Muon's README: two rates, each tuned on its own (verified)",
        bounds=above(0, 1),
        usual=rates.find_usual_adam,
        advice="Leave it empty with optim.scale=rms.",
        empty=Empty("optim.lr with optim.scale=rms, else AdamW's rate from the table", rates.recommend_adam),
        raise_when="If embeddings and norms learn too slowly.",
        lower_when="If the loss spikes although optim.lr is low.",
        interacts={"optim.scale": "with rms it is optim.lr", "optim.lr": "the rate of the matrices"},
    )

    def own_rate(self) -> tuple[Derived, Range] | None:
        return (rates.MUON_OWN, rates.MUON_OWN_USUAL) if self.scale is MuonScale.own else None

    def state_bytes(self, shape: tuple[int, ...], width: int, hidden: bool = True) -> int:
        """Returns the bytes of one running mean for a matrix inside the model, of AdamW's state for the rest."""
        if hidden and len(shape) == 2 and min(shape) > 1:
            return width * math.prod(shape)
        return AdamW.state_bytes(self, shape, width, hidden)

    def find_refusal(self, run: RunConfig) -> UserMessage | None:
        """Refuses adapters: their factors are not matrices of the model."""
        return without_adapters(
            self, run, message("Muon updates only the model's own matrices, and an adapter trains none of them")
        )


@option("optim", "schedule_free")
@dataclass(slots=True)
class ScheduleFree(Optim):
    """AdamW that averages its weights instead of lowering the rate. For runs of unknown length: every checkpoint can
    be the last.

    It trains one set of weights, and evaluates, samples and saves another: their average.
    """

    builds: ClassVar[str] = "fulgurite.optim.schedule_free:build"
    works_on_shards: ClassVar[bool] = True
    lr_factor: ClassVar[tuple[float, str]] = (2.0, "schedulefree's README: 1 to 10 times (verified); 2 is ours")
    averages: ClassVar[bool] = True
    starts_together: ClassVar[bool] = True
    scratch: ClassVar[tuple[float, float]] = (4.0, 4.0)
    costs: ClassVar[str] = "8 bytes of state per trained weight; an evaluation copies the weights."

    betas: list[float] = knob(
        [0.9, 0.999],
        "Weight of the average in the point at which gradients are computed, and decay rate of the running variance.",
        source=(
            "The Road Less Scheduled, Defazio et al., https://arxiv.org/abs/2405.15682; schedulefree's README "
            "(verified)"
        ),
        bounds=Range(0, 1, open_low=True, open_high=True),
        usual=between(0.9, 0.999),
        advice="Leave them in short runs.",
        raise_when="In long runs: the first to 0.95 or 0.98.",
        lower_when="If the average lags behind in a short run.",
        interacts={"scheduler.warmup_ratio": "needs a warmup, and no falling rate"},
    )
    eps: float = knob(
        1e-8,
        "A small number that keeps the division by the root of the variance finite.",
        source="schedulefree's default (verified)",
        bounds=above(0),
        usual=between(1e-8, 1e-6),
        advice="Leave it.",
        leave="It matters only if gradients are as small as it is.",
    )

    def state_bytes(self, shape: tuple[int, ...], width: int, hidden: bool = True) -> int:
        """Returns the bytes of a second set of weights and a variance, without the copy that an evaluation makes."""
        return 2 * width * math.prod(shape)

    def find_refusal(self, run: RunConfig) -> UserMessage | None:
        """Refuses a falling rate, and bf16 weights, which cannot hold the average."""
        if run.scheduler.falls:
            return message(
                "optim={optim} averages weights instead of lowering the rate, and scheduler={scheduler} would lower it "
                "as well; use scheduler=constant_with_warmup.",
                optim=self.name, scheduler=run.scheduler.name,
            )
        if run.precision.low_weights:
            return message(
                "optim={optim} averages by updates so small that weights of precision={precision} round them away; use "
                "precision=bf16.",
                optim=self.name, precision=run.precision.name,
            )
        return None


@dataclass(slots=True)
class Projected(AdamW):
    """Base of GaLore and APOLLO, which keep Adam's moments of a projection of each matrix's gradient."""

    rank: int = knob(
        128,
        "Rank of the projection of each matrix's gradient; AdamW updates matrices that are not wider than it.",
        source="GaLore's README 128, LLaMA-Factory 16 (verified)",
        bounds=at_least(1),
        usual=(16, 64, 128, 256),
        advice="128 first.",
        raise_when="If the loss is higher than AdamW's.",
        lower_when="If memory is short.",
        interacts={
            "optim.scale": "the update grows with both",
            "optim.update_proj_gap": "a low rank needs a new projection more often",
        },
        memory="State grows in proportion to it.",
    )
    update_proj_gap: int = knob(
        200,
        "Number of steps after which the projection is computed anew.",
        source="GaLore's and APOLLO's READMEs, LLaMA-Factory 200 (verified)",
        bounds=at_least(1),
        usual=between(50, 1000),
        advice="Leave it.",
        raise_when="If computing the projection takes a visible share of the time.",
        lower_when="If the loss stops falling before the projection changes.",
        time="GaLore computes an SVD of each matrix every time: 15 s at 135M on a CPU.",
    )

    def projects(self, shape: tuple[int, ...], hidden: bool) -> bool:
        """Returns whether a parameter of this shape is projected."""
        return hidden and len(shape) == 2 and min(shape) > self.rank


@option("optim", "galore")
@dataclass(slots=True)
class Galore(Projected):
    """AdamW on gradients that are projected to a low rank by their own SVD: trains every weight with as little state as
    LoRA. For full fine-tuning."""

    builds: ClassVar[str] = "fulgurite.optim.galore:build"
    lr_factor: ClassVar[tuple[float, str]] = (1.0, "1e-5 in LLaMA-Factory's example, as AdamW there (verified)")
    starts_together: ClassVar[bool] = True
    alone: ClassVar[bool] = False
    scratch: ClassVar[tuple[float, float]] = (8.0, 4.0)
    costs: ClassVar[str] = "Full gradients, but a small state; an SVD of every matrix from time to time."
    misread: ClassVar[str] = "It trains every weight. It is not an adapter, although it has a rank as LoRA has."

    eps: float = knob(
        1e-6,
        "A small number that keeps the division by the root of the variance finite.",
        source="GaLore's code and pytorch-optimizer",
        bounds=above(0),
        usual=between(1e-8, 1e-6),
        advice="Leave it.",
        sure=Sure.practice,
        leave="It matters only if gradients are as small as it is.",
    )
    scale: float = knob(
        2.0,
        "Factor on the update of a projected matrix.",
        source=(
            "GaLore, Zhao et al., https://arxiv.org/abs/2403.03507: 0.25 in pre-training; LLaMA-Factory 2 in "
            "fine-tuning (verified)"
        ),
        bounds=above(0),
        usual=between(0.25, 4),
        advice="2 to 4 to fine-tune.",
        raise_when="If the loss falls more slowly than AdamW's at the same rate.",
        lower_when="To train from scratch: 0.25.",
        interacts={"optim.lr": "both multiply the update"},
    )

    def state_bytes(self, shape: tuple[int, ...], width: int, hidden: bool = True) -> int:
        """Returns, for a projected matrix, two moments of rank times its longer side, and a projection of rank times
        the shorter side."""
        if self.projects(shape, hidden):
            return width * self.rank * (2 * max(shape) + min(shape))
        return 2 * width * math.prod(shape)

    def find_refusal(self, run: RunConfig) -> UserMessage | None:
        """Refuses adapters: their factors have a low rank already."""
        return without_adapters(
            self, run, message("the factors of an adapter have a low rank already, and nothing is left to project")
        )


@option("optim", "apollo")
@dataclass(slots=True)
class Apollo(Projected):
    """Scales each channel of the gradient as Adam scales a random projection of it: as little state as GaLore, without
    its SVD.

    For full fine-tuning if memory is short; try it before galore.
    """

    builds: ClassVar[str] = "fulgurite.optim.apollo:build"
    lr_factor: ClassVar[tuple[float, str]] = (1.0, "1e-5 in LLaMA-Factory's example, as AdamW there (verified)")
    alone: ClassVar[bool] = False
    costs: ClassVar[str] = "Full gradients, but a small state; no SVD."

    rank: int = knob(
        16,
        "Rank of the random projection of each matrix's gradient; AdamW updates matrices that are not wider than it.",
        source="LLaMA-Factory 16 (verified); the paper a quarter of the width (unverified)",
        bounds=at_least(1),
        usual=(16, 64, 128, 256),
        advice="16 first; keep optim.scale times the rank the same.",
        raise_when="If the loss is higher than AdamW's.",
        lower_when="If memory is short: even 1 works.",
        interacts={"optim.scale": "divide it by what the rank is multiplied by"},
        memory="State grows in proportion to it.",
    )
    scale: float = knob(
        32.0,
        "Square of the factor on the update of a projected matrix: about its shorter side divided by the rank.",
        source=(
            "APOLLO, Zhu et al., https://arxiv.org/abs/2412.05270; its authors in LLaMA-Factory 32, at rank 1 128 "
            "(verified)"
        ),
        bounds=above(0),
        usual=between(1, 128),
        advice="32 at rank 16, 128 at rank 1.",
        raise_when="If the loss falls too slowly: four times the value doubles the update.",
        lower_when="If the loss spikes.",
        interacts={"optim.rank": "keep scale times rank the same", "optim.lr": "both multiply the update"},
    )

    def state_bytes(self, shape: tuple[int, ...], width: int, hidden: bool = True) -> int:
        """Returns, for a projected matrix, two moments of rank times its longer side, and one fp32 norm. The projection
        is drawn again at each step."""
        if self.projects(shape, hidden):
            return width * 2 * self.rank * max(shape) + 4
        return AdamW.state_bytes(self, shape, width, hidden)

    def find_refusal(self, run: RunConfig) -> UserMessage | None:
        """Refuses adapters: their factors have a low rank already."""
        return without_adapters(
            self, run, message("the factors of an adapter have a low rank already, and nothing is left to project")
        )


@option("optim", "badam")
@dataclass(slots=True)
class Badam(AdamW):
    """AdamW on one block of layers at a time: state and gradients for one block only. For full fine-tuning if memory is
    short."""

    builds: ClassVar[str] = "fulgurite.optim.badam:build"
    lr_factor: ClassVar[tuple[float, str]] = (1.0, "1e-5 in LLaMA-Factory's example, as AdamW there (verified)")
    starts_together: ClassVar[bool] = True
    alone: ClassVar[bool] = False
    costs: ClassVar[str] = "State for one block only; the other blocks do not change meanwhile."

    switch_every: int = knob(
        50,
        "Number of steps for which a block is trained before the next one, which begins with empty state.",
        source="BAdam, Luo et al., https://arxiv.org/abs/2404.02827; LLaMA-Factory 50 (verified)",
        bounds=at_least(1),
        usual=between(20, 100),
        advice="50; a run should train each block at least once.",
        raise_when="If the loss is still falling when a block ends.",
        lower_when="In short runs, so that each block is trained.",
        interacts={"trainer.epochs": "the run should train every block"},
    )
    switch_mode: Order = knob(
        Order.ascending,
        "Order of the blocks: ascending from the embeddings, descending from the head, or a new random order each "
        "round.",
        source="BAdam's code and LLaMA-Factory's badam_switch_mode",
        advice="descending in short runs: the upper layers change answers most.",
    )

    def state_bytes(self, shape: tuple[int, ...], width: int, hidden: bool = True) -> int:
        """Returns AdamW's state, which exists while the parameter's block is trained."""
        return AdamW.state_bytes(self, shape, width, hidden)

    def total_state_bytes(self, shapes: Mapping[str, tuple[int, ...]], width: int, hidden: Collection[str]) -> int:
        """Returns the state of the largest block."""
        blocks = build_blocks({name: len(shape) for name, shape in shapes.items()})
        return max((sum(self.state_bytes(shapes[name], width) for name in block) for block in blocks), default=0)

    def find_refusal(self, run: RunConfig) -> UserMessage | None:
        """Refuses adapters, whose state is small, and several processes, which must agree on what has gradients."""
        if run.world_size > 1:
            return message(
                "optim={optim} cannot be used with {processes} processes: they would wait for gradients of blocks that "
                "are not trained; use trainer.devices=1, or optim=adamw.",
                optim=self.name, processes=run.world_size,
            )
        return without_adapters(
            self, run, message("the state of an adapter is small already, and most of the adapter would not train")
        )


@option("optim", "adam_mini")
@dataclass(slots=True)
class AdamMini(AdamW):
    """AdamW with one variance per row of a matrix instead of one per number: half of Adam's state at AdamW's rate."""

    builds: ClassVar[str] = "fulgurite.optim.adam_mini:build"
    works_on_shards: ClassVar[bool] = True
    lr_factor: ClassVar[tuple[float, str]] = (
        1.0,
        "1e-5 in LLaMA-Factory's example, as AdamW there; the paper: AdamW's (verified)",
    )
    alone: ClassVar[bool] = False
    scratch: ClassVar[tuple[float, float]] = (4.0, 12.0)
    costs: ClassVar[str] = "About 4 bytes of state per trained weight."

    def state_bytes(self, shape: tuple[int, ...], width: int, hidden: bool = True) -> int:
        """Returns the bytes of one running mean and an fp32 variance per row; a vector has one variance."""
        return width * math.prod(shape) + 4 * (shape[0] if len(shape) > 1 else 1)
