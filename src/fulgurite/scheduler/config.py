"""The learning rate's course: ten schedules, each a factor on the peak rate by step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fulgurite.config.schema import Derived, Empty, Option, Range, above, at_least, below, between, knob, option

if TYPE_CHECKING:
    from fulgurite.config.facts import Facts
    from fulgurite.config.run import RunConfig

TIMESCALE = 10_000
"""Steps: transformers' timescale of inverse_sqrt where there is no warmup."""


def _warmup_steps(run: RunConfig, facts: Facts) -> Derived:
    ratio = run.scheduler.warmup_ratio or 0.0
    asked, most = math.ceil(ratio * facts.total_steps), max(facts.total_steps - 1, 0)
    if asked > most:
        return Derived(most, f"{ratio:g} of the steps, and the last of {facts.total_steps} is no warmup")
    return Derived(asked, f"{ratio:g} of {facts.total_steps} steps, rounded up")


def _warmup_ratio(run: RunConfig, facts: Facts) -> Derived:
    return Derived(0.1, "10 % of a run of this size: Adam's moments are empty at first (Zephyr, SmolLM2 use 0.1)")


def _timescale(run: RunConfig, facts: Facts) -> Derived:
    warmup = run.scheduler.warmup_steps or 0
    if warmup:
        return Derived(warmup, "the warmup steps, as in transformers")
    return Derived(TIMESCALE, "as in transformers where there is no warmup: the rate hardly falls in a short run")


@dataclass(slots=True)
class Scheduler(Option):
    """What every schedule has: nothing."""

    builds: ClassVar[str] = "fulgurite.scheduler.curves:build"
    plots: ClassVar[bool] = True
    monitors: ClassVar[bool] = False
    """Whether it follows the validation loss by evaluation, in place of a curve over the optimizer steps; it then
    has the parameters `patience` and `factor`, and `builds` returns torch's ReduceLROnPlateau."""
    falls: ClassVar[bool] = True
    """Whether the rate falls after its peak."""
    steady: ClassVar[bool] = False
    """Whether the rate is the peak rate at every step."""


@dataclass(slots=True)
class Warm(Scheduler):
    """What every schedule with a warmup has."""

    warmup_ratio: float | None = knob(
        None, "The share of the run in which the rate climbs from 0 to optim.lr.",
        source="Zephyr and SmolLM2 recipes 0.1 (alignment-handbook, verified); Tülu 3 and QLoRA 0.03 (verified)",
        bounds=below(0, 1), usual=between(0, 0.1),
        advice="Raise it on early spikes of the loss. 0.03 is enough for long runs.",
        empty=Empty("0.1", _warmup_ratio),
        raise_when="On spikes in the first steps, and in short runs: 5 to 10 steps at least.",
        lower_when="In runs of many thousand steps: 0.03.",
        interacts={"scheduler.warmup_steps": "given, it wins", "optim.lr": "a high rate needs more of it"},
    )
    warmup_steps: int | None = knob(
        None, "The warmup in optimizer steps; given, it wins over scheduler.warmup_ratio.",
        source="The DPO authors' repository uses 150 steps (verified)",
        bounds=at_least(0), usual=between(0, 500),
        advice="Prefer the ratio: it follows the length of the run.",
        empty=Empty("from scheduler.warmup_ratio", _warmup_steps, "steps"),
        raise_when="On spikes in the first steps.", lower_when="When the warmup takes more than a tenth of the run.",
        interacts={"scheduler.warmup_ratio": "not read where this is given"},
        misread="It is a whole number of steps. A fraction belongs to scheduler.warmup_ratio.",
    )


@option("scheduler", "linear")
@dataclass(slots=True)
class Linear(Warm):
    """Rises, then falls in a straight line to 0. In pre-training a little ahead of a cosine that ends at 10 % of the
    peak."""

    costs: ClassVar[str] = "Nothing."


@option("scheduler", "cosine")
@dataclass(slots=True)
class Cosine(Warm):
    """Rises, then falls along half a cosine to 0. Take it when the length of the run is known."""

    costs: ClassVar[str] = "The length of the run must be known."


@option("scheduler", "cosine_with_restarts")
@dataclass(slots=True)
class CosineWithRestarts(Warm):
    """Cosine that falls `cycles` times and jumps back to the peak in between. One cycle is plain cosine, exactly."""

    costs: ClassVar[str] = "The loss jumps at each restart."
    misread: ClassVar[str] = "With one cycle, the default of many tools, it is plain cosine and restarts nothing."

    cycles: int = knob(
        2, "How many times the rate falls from the peak to 0.",
        source="SGDR, Loshchilov and Hutter, https://arxiv.org/abs/1608.03983; transformers' 1 is plain cosine",
        bounds=at_least(1), usual=between(1, 5), advice="More cycles to take a snapshot at each end.",
        raise_when="To keep the model at the end of each cycle.", lower_when="When the loss jumps at each restart.",
        misread="One cycle is plain cosine, exactly. Many tools have 1 as their default, and then nothing restarts.",
    )


@option("scheduler", "cosine_with_min_lr")
@dataclass(slots=True)
class CosineWithMinLr(Warm):
    """Cosine that ends at a floor above 0. Take it for long runs, whose end should keep moving."""

    costs: ClassVar[str] = "The end is a little noisier than cosine's."

    min_ratio: float = knob(
        0.1,
        "The floor, as a share of optim.lr.",
        source="SmolLM3 0.1 (alignment-handbook, verified)",
        bounds=between(0, 1),
        usual=between(0, 0.2),
        advice="0 is plain cosine.",
        raise_when="When the loss still falls at the end of the run.",
        lower_when="For the quietest end: 0 is plain cosine.",
        interacts={"optim.lr": "the floor is a share of it"},
    )


@option("scheduler", "polynomial")
@dataclass(slots=True)
class Polynomial(Warm):
    """Falls as a power of the time left, to a small floor. With power 1 it is linear, to 1e-7 of rate."""

    costs: ClassVar[str] = "Two more knobs."
    misread: ClassVar[str] = "With power 1, the default of many tools, it is linear."

    power: float = knob(
        2.0, "The power: above 1 falls early, below 1 falls late.", source="transformers' default of 1 is plain linear",
        bounds=above(0), usual=between(0.5, 3), advice="Raise it to fall sooner.",
        raise_when="To fall sooner.", lower_when="To fall later; 1 is a straight line.",
        misread="With power 1 it is linear. Many tools have 1 as their default.",
    )
    lr_end: float = knob(
        1e-7, "The rate at the end, absolute; below optim.lr.", source="transformers' default (verified)",
        bounds=at_least(0), usual=between(0, 1e-5), advice="Leave it.",
        leave="It only keeps the end above 0.",
        interacts={"optim.lr": "must lie above it"},
    )


@option("scheduler", "constant")
@dataclass(slots=True)
class Constant(Scheduler):
    """The peak rate at every step. Take it for comparisons, or when another run continues from this one."""

    falls: ClassVar[bool] = False
    steady: ClassVar[bool] = True
    costs: ClassVar[str] = "The noise of the steps stays to the end."


@option("scheduler", "constant_with_warmup")
@dataclass(slots=True)
class ConstantWithWarmup(Warm):
    """Rises, then stays: it does not fall. Good for short LoRA runs and reinforcement learning."""

    falls: ClassVar[bool] = False
    costs: ClassVar[str] = "The noise of the steps stays to the end."
    misread: ClassVar[str] = "It rises and then stays. It does not start large and then fall."


@option("scheduler", "inverse_sqrt")
@dataclass(slots=True)
class InverseSqrt(Warm):
    """Rises, then falls as 1/√step. Hardly falls without a warmup: 95 % are left after 1000 steps."""

    costs: ClassVar[str] = "It never reaches 0, and a short run hardly sees it fall."
    misread: ClassVar[str] = "Without a warmup it is nearly constant in a short run."

    timescale: int | None = knob(
        None,
        "How slowly it falls, in steps.",
        source="Vaswani et al., https://arxiv.org/abs/1706.03762; ORPO uses it with 200 warmup steps",
        bounds=at_least(1),
        usual=Range(10, 10_000),
        advice="Lower it to fall sooner.",
        empty=Empty("the warmup steps; 10,000 where there are none", _timescale, "steps"),
        raise_when="To fall later.",
        lower_when="To fall sooner: without a warmup the default hardly falls in a short run.",
        interacts={"scheduler.warmup_steps": "stands in for it where it is empty"},
    )


@option("scheduler", "reduce_lr_on_plateau")
@dataclass(slots=True)
class ReduceLrOnPlateau(Scheduler):
    """Stays until the validation loss stops falling, then is cut. Needs a validation part; counts evaluations."""

    builds: ClassVar[str] = "fulgurite.scheduler.plateau:build"
    monitors: ClassVar[bool] = True
    costs: ClassVar[str] = "A validation part, and time for its evaluations."
    misread: ClassVar[str] = "It counts evaluations, not steps, and does nothing without a validation part."

    patience: int = knob(
        2, "How many evaluations without a better loss are borne before a cut.",
        source="Ours; transformers' default is 10 evaluations",
        bounds=at_least(0), usual=between(1, 10), advice="Raise it when the validation loss is noisy.",
        raise_when="When the validation loss is noisy.", lower_when="When the loss lies flat for long before a cut.",
        interacts={"trainer.eval_every": "it counts evaluations, not steps", "data.val_fraction": "must be above 0"},
        misread="It counts evaluations, not optimizer steps.",
    )
    factor: float = knob(
        0.5, "What the rate is multiplied by at a cut.", source="Ours; torch's default is 0.1",
        bounds=Range(0, 1, open_low=True, open_high=True), usual=between(0.1, 0.8), advice="Lower it for a harder cut.",
        raise_when="For gentler cuts.", lower_when="For harder cuts.",
        interacts={"scheduler.patience": "gentle cuts may come sooner"},
    )


@option("scheduler", "warmup_stable_decay")
@dataclass(slots=True)
class WarmupStableDecay(Warm):
    """Rises, stays, then falls at the end (WSD). Take it when the length of the run is not known for sure."""

    costs: ClassVar[str] = "The loss falls late, in the decay."

    decay_ratio: float = knob(
        0.2, "The share of the run in which the rate falls at the end.",
        source="WSD, Hu et al., https://arxiv.org/abs/2404.06395; 0.2 is ours, LLaMA-Factory uses 2/3 (verified)",
        bounds=Range(0, 1, open_low=True), usual=between(0.1, 0.67), advice="Raise it for a gentler end.",
        raise_when="For a gentler end.", lower_when="To stay longer at the peak.",
        interacts={"scheduler.warmup_ratio": "what is left between the two stays at the peak"},
    )
    min_ratio: float = knob(
        0.0, "The floor, as a share of optim.lr.", source="transformers' default (verified)",
        bounds=between(0, 1), usual=between(0, 0.2), advice="0.1 keeps the end moving.",
        raise_when="When the loss still falls at the end of the run: 0.1.", lower_when="For the quietest end: 0.",
        interacts={"optim.lr": "the floor is a share of it"},
    )
