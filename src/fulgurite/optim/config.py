"""How gradients become steps."""

# Longer than other files: a declaration a page of `explain optim`, which people read side by side.

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from fulgurite.config.schema import Empty, Option, Range, Sure, above, at_least, below, between, knob, option
from fulgurite.optim import default_lrs as rates
from fulgurite.optim.block_schedule import Order, blocks_of

if TYPE_CHECKING:
    from fulgurite.config.run import RunConfig

COUNT = 4
"""Bytes of the step count that torch's AdamW and Adafactor keep for each parameter, an fp32 number."""
STAY = ("constant", "constant_with_warmup")
"""Schedules that do not lower the rate."""


class Decay(StrEnum):
    """What weight decay takes from."""

    matrices = "matrices"
    all = "all"


@dataclass(slots=True)
class Optim(Option):
    """What every optimizer has."""

    alone: ClassVar[bool] = False
    """Whether a parameter's step depends on nothing but the parameter, its gradient and its state: then its result can be rounded."""
    scratch: ClassVar[tuple[float, float]] = (0.0, 0.0)
    """Bytes a number of the largest weight that a step takes while it lasts: of fp32 weights, of 16-bit ones. A test counts them."""

    lr: float | None = knob(
        None, "The learning rate: the size of each step at its peak. Wrong by ten, no other knob repairs it.",
        source="A table by stage, method and model size, after TRL, Tülu 3, Zephyr, QLoRA and SmolLM2 (verified): "
        "fulgurite/optim/default_lrs.py names who used what",
        bounds=above(0, 1), usual=rates.usual,
        advice="Raise it 2 to 5 times if the loss lies flat and samples do not change; divide by 2 to 5 on spikes or repetition. "
        "LoRA takes about ten times the rate of full fine-tuning, and qlora LoRA's; ia3 takes 3 and vera 5 times that; "
        "layerwise and llama_pro take full's, freeze and oft 3 times full's.",
        empty=Empty("from the stage, the method and the model's size", rates.recommend),
        raise_when="When the loss lies flat from the start and samples do not change: 2 to 5 times.",
        lower_when="On spikes, on repetition in samples, when most steps are clipped, or when chosen rewards fall in DPO: divide "
        "by 2 to 5.",
        interacts={
            "method.alpha": "alpha / rank multiplies the step of an adapter",
            "trainer.batch_size": "a larger batch bears a larger rate, about by its root",
            "scheduler.warmup_ratio": "a high rate needs a warmup",
            "trainer.max_steps": "too few steps are not mended by a higher rate",
        },
        misread="The number of rows does not decide the rate: stage, method and the model's size do. 5e-5 is only a widespread default.",
    )
    weight_decay: float = knob(
        0.0, "The share of each weight that a step takes away, times the learning rate; from which weights, optim.decay says.",
        source="Tülu 3, QLoRA and HF 0, torch and torchtune 0.01 (verified)",
        bounds=between(0, 1), usual=between(0, 0.1), advice="0.01 to 0.1 for long full fine-tuning.",
        raise_when="When a long full fine-tuning over-fits: 0.01 to 0.1.", lower_when="When the model forgets what it knew.",
        interacts={"optim.lr": "what is taken away is lr times the decay", "optim.decay": "says from which weights it is taken"},
    )
    decay: Decay = knob(
        Decay.matrices, "What weight decay takes from: matrices, or all weights, which are norms, biases and embeddings too.",
        source="Common practice since GPT-2 (nanoGPT, OLMo-core): norms and biases have a right size, and it is not zero",
        advice="Leave it; all repeats recipes that give the optimizer every weight alike.",
    )

    def state_bytes(self, shape: tuple[int, ...], width: int, hidden: bool = True) -> int:
        """Bytes of state for a trained parameter of this shape, whose dtype has `width` bytes a number.

        `hidden` says of a matrix that it lies inside the model: not embedding, not head, not an adapter's factor.
        An optimizer that does not say counts as Adam: two moments, and a count of steps.
        """
        return 2 * width * math.prod(shape) + COUNT

    def total_state_bytes(self, shapes: Mapping[str, tuple[int, ...]], width: int, hidden: Collection[str]) -> int:
        """Bytes of state at their most, for all trained parameters by name; `hidden` names the matrices inside the model."""
        return sum(self.state_bytes(shape, width, name in hidden) for name, shape in shapes.items())


def without_adapters(option: Option, run: RunConfig, why: str) -> str | None:
    """The refusal of a method whose trained weights are small matrices beside the model."""
    if not getattr(type(run.method), "adapter", False):
        return None
    return f"optim={option.name} cannot be used with method={run.method.name}: {why}; take optim=adamw, or method=full."


@option("optim", "adamw")
@dataclass(slots=True)
class AdamW(Optim):
    """Adam with decoupled weight decay, torch's fused form. Always the first choice."""

    builds: ClassVar[str] = "fulgurite.optim.adamw:build"
    alone: ClassVar[bool] = True
    costs: ClassVar[str] = "8 bytes of state a trained weight in fp32."

    betas: list[float] = knob(
        [0.9, 0.999], "How long the running mean and variance of the gradient remember.",
        source="AdamW, Loshchilov and Hutter, https://arxiv.org/abs/1711.05101; 0.95 in long runs (InstructGPT)",
        bounds=below(0, 1), usual=between(0.8, 0.999), advice="[0.9, 0.95] for long runs and reinforcement learning.",
        raise_when="Nearer to 1 for small, noisy batches.",
        lower_when="The second to 0.95 in long runs, in reinforcement learning, and when spikes must be forgotten soon.",
        interacts={"trainer.batch_size": "small batches want a longer memory"},
    )
    eps: float = knob(
        1e-8, "A small number that keeps the division by the variance finite.", source="torch's and HF's default (verified)",
        bounds=above(0), usual=between(1e-8, 1e-6), advice="Leave it.",
        leave="It matters only where gradients are as small as it is.",
    )


@option("optim", "adamw_8bit")
@dataclass(slots=True)
class AdamW8bit(AdamW):
    """AdamW whose moments are kept in 8 bits, from bitsandbytes; works on a CPU too. For full fine-tuning when memory is short.

    Each block of 256 numbers has a scale of its own. Tensors below 4096 numbers keep 32 bits, as bitsandbytes does it.
    """

    builds: ClassVar[str] = "fulgurite.optim.adamw_8bit:build"
    alone: ClassVar[bool] = False
    scratch: ClassVar[tuple[float, float]] = (20.0, 24.0)
    costs: ClassVar[str] = "About 2 bytes of state a trained weight."

    def state_bytes(self, shape: tuple[int, ...], width: int, hidden: bool = True) -> int:
        """Two bytes a number, two fp32 scales a block of 256. Two tables of 256 code values, which parameters share, are not counted."""
        numbers = math.prod(shape)
        return 8 * numbers if numbers < 4096 else 2 * numbers + 2 * 4 * math.ceil(numbers / 256)


@option("optim", "paged_adamw_8bit")
@dataclass(slots=True)
class PagedAdamW8bit(AdamW8bit):
    """`adamw_8bit` whose state may move to the CPU's memory when the GPU's is short. On a CPU it is `adamw_8bit`, and the run says so."""

    builds: ClassVar[str] = "fulgurite.optim.adamw_8bit:build_paged"
    costs: ClassVar[str] = "About 2 bytes of state a trained weight; slow while it pages."


@option("optim", "sgd")
@dataclass(slots=True)
class Sgd(Optim):
    """Stochastic gradient descent with momentum. For teaching and comparisons: language models want Adam."""

    builds: ClassVar[str] = "fulgurite.optim.sgd:build"
    alone: ClassVar[bool] = True
    costs: ClassVar[str] = "4 bytes of state a trained weight, none without momentum; many more steps."

    momentum: float = knob(
        0.9, "The share of the last step that is kept in the next.", source="Common practice; torch's default is 0",
        bounds=below(0, 1), usual=between(0.8, 0.99), advice="0 for the plainest descent.",
        raise_when="For smoother steps on noisy batches.", lower_when="When the loss swings.",
        interacts={"optim.lr": "the step grows by 1 / (1 - momentum)"},
        memory="0 saves the only state there is.",
    )

    def state_bytes(self, shape: tuple[int, ...], width: int, hidden: bool = True) -> int:
        """The momentum."""
        return width * math.prod(shape) if self.momentum else 0


@option("optim", "adafactor")
@dataclass(slots=True)
class Adafactor(Optim):
    """AdamW's idea with next to no state: a row and a column in place of a matrix. For full fine-tuning in little memory."""

    builds: ClassVar[str] = "fulgurite.optim.adafactor:build"
    alone: ClassVar[bool] = True
    scratch: ClassVar[tuple[float, float]] = (4.0, 2.0)
    costs: ClassVar[str] = "Next to no state; often a little behind AdamW."

    beta2_decay: float = knob(
        -0.8, "How the memory of the variance grows: at step t the newest gradient counts t to this power.",
        source="Adafactor, Shazeer and Stern, https://arxiv.org/abs/1804.04235; torch's default",
        bounds=between(-1, 0), usual=between(-0.9, -0.5), advice="Leave it.",
        leave="The paper's value suits every length of run.",
    )
    clip_threshold: float = knob(
        1.0, "An update whose root mean square is above this is scaled down to it.",
        source="Adafactor, Shazeer and Stern, https://arxiv.org/abs/1804.04235; torch's default",
        bounds=at_least(1), usual=between(1, 2), advice="Leave it, and trainer.max_grad_norm=0 besides: one clipping is enough.",
        leave="The paper's value; raising it gives up what keeps Adafactor stable without momentum.",
        interacts={"trainer.max_grad_norm": "one clipping is enough: set that to 0"},
    )

    def state_bytes(self, shape: tuple[int, ...], width: int, hidden: bool = True) -> int:
        """A number a row and one a column of a matrix; a vector keeps its variance whole."""
        if len(shape) < 2:
            return width * math.prod(shape) + COUNT
        *outer, rows, columns = shape
        return width * math.prod(outer) * (rows + columns) + COUNT


@option("optim", "lion")
@dataclass(slots=True)
class Lion(Optim):
    """Steps of one size along the sign of a running mean: half of Adam's state. For large batches; a third of AdamW's rate or less."""

    builds: ClassVar[str] = "fulgurite.optim.lion:build"
    alone: ClassVar[bool] = True
    scratch: ClassVar[tuple[float, float]] = (4.0, 2.0)
    costs: ClassVar[str] = "4 bytes of state a trained weight; touchy about its rate."

    betas: list[float] = knob(
        [0.9, 0.99], "How much the running mean counts in the step, and how long it remembers.",
        source="Lion, Chen et al., https://arxiv.org/abs/2302.06675; lion-pytorch's README (verified)",
        bounds=below(0, 1), usual=between(0.9, 0.99), advice="[0.95, 0.98] when it is unstable. Weight decay wants 3 to 10 times AdamW's.",
        raise_when="For small, noisy batches.", lower_when="When it is unstable: [0.95, 0.98].",
        interacts={"optim.weight_decay": "wants 3 to 10 times AdamW's"},
    )

    def state_bytes(self, shape: tuple[int, ...], width: int, hidden: bool = True) -> int:
        """One running mean."""
        return width * math.prod(shape)


class MuonScale(StrEnum):
    """What a rate means to Muon."""

    rms = "rms"
    own = "own"


@option("optim", "muon")
@dataclass(slots=True)
class Muon(AdamW):
    """Makes each matrix's step orthogonal; embeddings, head, norms and biases go by AdamW (`betas` and `eps` are its). For pre-training.

    Its authors doubt it for fine-tuning a model that Adam trained.
    """

    builds: ClassVar[str] = "fulgurite.optim.muon:build"
    alone: ClassVar[bool] = False
    costs: ClassVar[str] = "4 bytes of state for a matrix; 15 products of matrices a step."

    momentum: float = knob(
        0.95, "The share of the running mean that is kept from step to step, under Nesterov's look ahead.",
        source="Muon, Jordan, https://kellerjordan.github.io/posts/muon/; torch's default", bounds=below(0, 1), usual=between(0.9, 0.98),
        advice="Leave it.",
        leave="Its author's value; only pre-training has been tuned.",
    )
    newton_steps: int = knob(
        5, "How often the iteration that makes a step orthogonal is repeated.",
        source="Muon, Jordan, https://kellerjordan.github.io/posts/muon/; torch's default", bounds=between(1, 20), usual=between(4, 6),
        advice="Leave it: each costs three products of matrices.",
        leave="Five make a matrix orthogonal enough.",
        time="Each costs three products of matrices a step.",
    )
    scale: MuonScale = knob(
        MuonScale.rms, "Whether a step gets the size of AdamW's, so that its rates hold, or Muon's own, which wants about 0.02.",
        source="0.2 times the root of the longer side: Moonlight, https://arxiv.org/abs/2502.16982; torch's match_rms_adamw",
        advice="rms, unless you repeat a recipe that says otherwise.",
    )
    adam_lr: float | None = knob(
        None, "The peak rate of what goes by AdamW.", source="Muon's README: two rates, each tuned on its own (verified)",
        bounds=above(0, 1), usual=rates.usual_adam, advice="Leave it under optim.scale=rms.",
        empty=Empty("optim.lr under optim.scale=rms, else AdamW's rate from the table", rates.recommend_adam),
        raise_when="When embeddings and norms learn too slowly.", lower_when="When the loss spikes though optim.lr is low.",
        interacts={"optim.scale": "under rms it is optim.lr", "optim.lr": "the rate of the matrices"},
    )

    def state_bytes(self, shape: tuple[int, ...], width: int, hidden: bool = True) -> int:
        """One running mean for a matrix inside the model that is wider than one, AdamW's state for the rest."""
        if hidden and len(shape) == 2 and min(shape) > 1:
            return width * math.prod(shape)
        return AdamW.state_bytes(self, shape, width, hidden)

    def refusal(self, run: RunConfig) -> str | None:
        """LoRA's factors are never Muon's."""
        return without_adapters(self, run, "an adapter's factors are no matrices of the model, and nothing would be left for Muon")


@option("optim", "schedule_free")
@dataclass(slots=True)
class ScheduleFree(Optim):
    """AdamW that averages its weights in place of a falling rate. For runs whose length is not known: every checkpoint is an end.

    It trains one set of weights and evaluates, samples and saves another, their average.
    """

    builds: ClassVar[str] = "fulgurite.optim.schedule_free:build"
    scratch: ClassVar[tuple[float, float]] = (4.0, 4.0)
    costs: ClassVar[str] = "8 bytes of state a trained weight; an evaluation copies the weights."

    betas: list[float] = knob(
        [0.9, 0.999], "How near to the average the gradient is taken, and how long the running variance remembers.",
        source="The Road Less Scheduled, Defazio et al., https://arxiv.org/abs/2405.15682; schedulefree's README (verified)",
        bounds=Range(0, 1, open_low=True, open_high=True), usual=between(0.9, 0.999), advice="[0.95, 0.999] or [0.98, 0.999] in long runs.",
        raise_when="The first to 0.95 or 0.98 in long runs.", lower_when="When the average lags behind in a short run.",
        interacts={"scheduler.warmup_ratio": "it wants a warmup, and no falling rate"},
    )
    eps: float = knob(
        1e-8, "A small number that keeps the division by the variance finite.", source="schedulefree's default (verified)",
        bounds=above(0), usual=between(1e-8, 1e-6), advice="Leave it.",
        leave="It matters only where gradients are as small as it is.",
    )

    def state_bytes(self, shape: tuple[int, ...], width: int, hidden: bool = True) -> int:
        """A second set of weights and a variance; an evaluation copies the weights for as long as it lasts."""
        return 2 * width * math.prod(shape)

    def refusal(self, run: RunConfig) -> str | None:
        """A falling rate, and an average that bf16 cannot hold."""
        if run.scheduler.name not in STAY:
            return (
                f"optim=schedule_free averages weights in place of a falling rate, and scheduler={run.scheduler.name} "
                "would lower it as well; take scheduler=constant_with_warmup."
            )
        if run.precision.name == "pure_bf16":
            return "optim=schedule_free averages by steps that weights of precision=pure_bf16 round away; take precision=bf16."
        return None


@dataclass(slots=True)
class Projected(AdamW):
    """What GaLore and APOLLO share: Adam's moments of a projection of each matrix's gradient."""

    rank: int = knob(
        128, "How many rows or columns of each matrix's gradient Adam's state sees; smaller matrices go by AdamW whole.",
        source="GaLore's README 128, LLaMA-Factory 16 (verified)", bounds=at_least(1), usual=(16, 64, 128, 256),
        advice="Lower it for memory, raise it when the loss lies above AdamW's.",
        raise_when="When the loss lies above AdamW's.", lower_when="When memory is short.",
        interacts={"optim.scale": "the step grows with both", "optim.gap": "a low rank wants to be chosen anew more often"},
        memory="State grows in proportion to it.",
    )
    gap: int = knob(
        200, "After how many steps the projection is chosen anew.", source="GaLore's and APOLLO's READMEs, LLaMA-Factory 200 (verified)",
        bounds=at_least(1), usual=between(50, 1000), advice="Leave it. GaLore takes an SVD of every matrix each time: 15 s at 135M (CPU).",
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
    """AdamW on gradients projected to a low rank by their own SVD: trains every weight with LoRA's state. For full fine-tuning."""

    builds: ClassVar[str] = "fulgurite.optim.galore:build"
    alone: ClassVar[bool] = False
    scratch: ClassVar[tuple[float, float]] = (8.0, 4.0)
    costs: ClassVar[str] = "Full gradients, but a small state; an SVD of every matrix now and then."
    misread: ClassVar[str] = "It trains every weight. It is no adapter, though its rank reminds of LoRA's."

    eps: float = knob(
        1e-6, "A small number that keeps the division by the variance finite.", source="GaLore's code and pytorch-optimizer",
        bounds=above(0), usual=between(1e-8, 1e-6), advice="Leave it.",
        sure=Sure.practice,
        leave="It matters only where gradients are as small as it is.",
    )
    scale: float = knob(
        2.0, "A factor on the step of a projected matrix.",
        source="GaLore, Zhao et al., https://arxiv.org/abs/2403.03507: 0.25 in pre-training; LLaMA-Factory 2 in fine-tuning (verified)",
        bounds=above(0), usual=between(0.25, 4), advice="0.25 to train from nothing, 2 to 4 to fine-tune.",
        raise_when="When the loss falls more slowly than AdamW's at the same rate.", lower_when="To train from nothing: 0.25.",
        interacts={"optim.lr": "both multiply the step"},
    )

    def state_bytes(self, shape: tuple[int, ...], width: int, hidden: bool = True) -> int:
        """A projected matrix keeps two moments of rank times its longer side, and its projection, rank times the shorter."""
        if self.projects(shape, hidden):
            return width * self.rank * (2 * max(shape) + min(shape))
        return 2 * width * math.prod(shape)

    def refusal(self, run: RunConfig) -> str | None:
        """An adapter's factors are of low rank already."""
        return without_adapters(self, run, "an adapter's factors are of low rank already, and nothing is left to project")


@option("optim", "apollo")
@dataclass(slots=True)
class Apollo(Projected):
    """The whole gradient, each channel scaled as Adam scales a random projection of it: GaLore's state without its SVD.

    For full fine-tuning in little memory, before galore.
    """

    builds: ClassVar[str] = "fulgurite.optim.apollo:build"
    alone: ClassVar[bool] = False
    costs: ClassVar[str] = "Full gradients, but a small state; no SVD."

    rank: int = knob(
        16, "How many rows or columns the random projection has in which Adam's state lives; smaller matrices go by AdamW whole.",
        source="LLaMA-Factory 16 (verified); the paper a quarter of the width (unverified)", bounds=at_least(1),
        usual=(16, 64, 128, 256),
        advice="Lower it for memory; divide optim.scale by what you multiply it by.",
        raise_when="When the loss lies above AdamW's.", lower_when="When memory is short: even 1 works.",
        interacts={"optim.scale": "divide it by what the rank is multiplied by"},
        memory="State grows in proportion to it.",
    )
    scale: float = knob(
        32.0, "The square of a factor on the step of a projected matrix: about its shorter side divided by the rank.",
        source="APOLLO, Zhu et al., https://arxiv.org/abs/2412.05270; its authors in LLaMA-Factory 32, at rank 1 128 (verified)",
        bounds=above(0), usual=between(1, 128), advice="Raise it fourfold where the loss falls too slowly: that doubles the step.",
        raise_when="Fourfold when the loss falls too slowly: that doubles the step.", lower_when="On spikes.",
        interacts={"optim.rank": "scale times rank should stay", "optim.lr": "both multiply the step"},
    )

    def state_bytes(self, shape: tuple[int, ...], width: int, hidden: bool = True) -> int:
        """A projected matrix keeps two moments of rank times its longer side, and one fp32 norm. The projection is drawn anew each step."""
        if self.projects(shape, hidden):
            return width * 2 * self.rank * max(shape) + 4
        return AdamW.state_bytes(self, shape, width, hidden)

    def refusal(self, run: RunConfig) -> str | None:
        """An adapter's factors are of low rank already."""
        return without_adapters(self, run, "an adapter's factors are of low rank already, and nothing is left to project")


@option("optim", "badam")
@dataclass(slots=True)
class Badam(AdamW):
    """AdamW on one block of layers at a time: state and gradients for one alone. For full fine-tuning in little memory."""

    builds: ClassVar[str] = "fulgurite.optim.badam:build"
    alone: ClassVar[bool] = False
    costs: ClassVar[str] = "State for one block alone; the others stand still meanwhile."

    every: int = knob(
        50, "How many steps a block is trained before the next takes its turn, with fresh state.",
        source="BAdam, Luo et al., https://arxiv.org/abs/2404.02827; LLaMA-Factory 50 (verified)",
        bounds=at_least(1), usual=between(20, 100), advice="Lower it in short runs: a run should visit each block, at least once.",
        raise_when="When each block's loss is still falling at its end.", lower_when="In short runs, so that each block has its turn.",
        interacts={"trainer.epochs": "the run should visit every block"},
    )
    order: Order = knob(
        Order.ascending, "Which block is next: from the embeddings up, from the head down, or each once in an order drawn anew each round.",
        source="BAdam's code and LLaMA-Factory's badam_switch_mode", advice="descending in short runs: upper layers change answers most.",
    )

    def state_bytes(self, shape: tuple[int, ...], width: int, hidden: bool = True) -> int:
        """AdamW's while the parameter's block is trained, nothing at other times."""
        return AdamW.state_bytes(self, shape, width, hidden)

    def total_state_bytes(self, shapes: Mapping[str, tuple[int, ...]], width: int, hidden: Collection[str]) -> int:
        """The largest block's."""
        blocks = blocks_of({name: len(shape) for name, shape in shapes.items()})
        return max((sum(self.state_bytes(shapes[name], width) for name in block) for block in blocks), default=0)

    def refusal(self, run: RunConfig) -> str | None:
        """An adapter has little state to save, and processes must agree on what has gradients."""
        if getattr(run.trainer, "processes", 1) > 1:
            return (
                f"optim=badam cannot be used with trainer={run.trainer.name}: its processes wait for gradients of blocks that rest; "
                "take trainer=auto, or optim=adamw."
            )
        return without_adapters(self, run, "an adapter's state is small already, and most of it would rest")


@option("optim", "adam_mini")
@dataclass(slots=True)
class AdamMini(AdamW):
    """AdamW with one variance a row of a matrix, in place of one a number: half of Adam's state at AdamW's rate."""

    builds: ClassVar[str] = "fulgurite.optim.adam_mini:build"
    alone: ClassVar[bool] = False
    scratch: ClassVar[tuple[float, float]] = (4.0, 12.0)
    costs: ClassVar[str] = "About 4 bytes of state a trained weight."

    def state_bytes(self, shape: tuple[int, ...], width: int, hidden: bool = True) -> int:
        """One running mean, and an fp32 variance a row; a vector has one in all."""
        return width * math.prod(shape) + 4 * (shape[0] if len(shape) > 1 else 1)
