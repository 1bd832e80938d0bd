"""The learning rate's course: ten schedules, each a factor on the peak rate by step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fulgurite.schema import Derived, Empty, Option, Range, above, at_least, below, between, knob, option

if TYPE_CHECKING:
    from fulgurite.run import Facts, RunConfig

TIMESCALE = 10_000
"""Steps: transformers' timescale of inverse_sqrt where there is no warmup."""


def _warmup_steps(run: RunConfig, facts: Facts) -> Derived:
    ratio = run.scheduler.warmup_ratio or 0.0
    steps = min(math.ceil(ratio * facts.total_steps), max(facts.total_steps - 1, 0))
    return Derived(steps, f"{ratio:g} of {facts.total_steps} steps, rounded up")


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
    monitors: ClassVar[bool] = False
    """Whether it follows the validation loss by evaluation, in place of a curve over the optimizer steps."""


@dataclass(slots=True)
class Warm(Scheduler):
    """What every schedule with a warmup has."""

    warmup_ratio: float | None = knob(
        None, "The share of the run in which the rate climbs from 0 to optim.lr.",
        source="Zephyr and SmolLM2 recipes 0.1 (alignment-handbook, verified); Tülu 3 and QLoRA 0.03 (verified)",
        bounds=below(0, 1), usual=between(0, 0.1),
        advice="Raise it on early spikes of the loss. 0.03 is enough for long runs.",
        empty=Empty("0.1", _warmup_ratio),
    )
    warmup_steps: int | None = knob(
        None, "The warmup in optimizer steps; given, it wins over scheduler.warmup_ratio.",
        source="The DPO authors' repository uses 150 steps (verified)",
        bounds=at_least(0), usual=between(0, 500),
        advice="Prefer the ratio: it follows the length of the run.",
        empty=Empty("from scheduler.warmup_ratio", _warmup_steps, "steps"),
    )


@option("scheduler", "linear")
@dataclass(slots=True)
class Linear(Warm):
    """Rises, then falls in a straight line to 0. As good as cosine; a little ahead of it in pre-training."""


@option("scheduler", "cosine")
@dataclass(slots=True)
class Cosine(Warm):
    """Rises, then falls along half a cosine to 0. Take it when the length of the run is known."""


@option("scheduler", "cosine_with_restarts")
@dataclass(slots=True)
class CosineWithRestarts(Warm):
    """Cosine that jumps back to the peak `cycles` times. With one cycle it is plain cosine, exactly."""

    cycles: int = knob(
        2, "How many times the rate falls from the peak to 0.",
        source="SGDR, Loshchilov and Hutter, https://arxiv.org/abs/1608.03983; transformers' 1 is plain cosine",
        bounds=at_least(1), usual=between(1, 5), advice="More cycles to take a snapshot at each end.",
    )


@option("scheduler", "cosine_with_min_lr")
@dataclass(slots=True)
class CosineWithMinLr(Warm):
    """Cosine that ends at a floor above 0. Take it for long runs, whose end should keep moving."""

    min_ratio: float = knob(
        0.1, "The floor, as a share of optim.lr.", source="SmolLM3 0.1 (alignment-handbook, verified)",
        bounds=between(0, 1), usual=between(0, 0.2), advice="0 is plain cosine.",
    )


@option("scheduler", "polynomial")
@dataclass(slots=True)
class Polynomial(Warm):
    """Falls as a power of the time left, to a small floor. With power 1 it is linear, to 1e-7 of rate."""

    power: float = knob(
        2.0, "The power: above 1 falls early, below 1 falls late.", source="transformers' default of 1 is plain linear",
        bounds=above(0), usual=between(0.5, 3), advice="Raise it to fall sooner.",
    )
    lr_end: float = knob(
        1e-7, "The rate at the end, absolute; below optim.lr.", source="transformers' default (verified)",
        bounds=at_least(0), usual=between(0, 1e-5), advice="Leave it.",
    )


@option("scheduler", "constant")
@dataclass(slots=True)
class Constant(Scheduler):
    """The peak rate at every step. Take it for comparisons, or when another run continues from this one."""


@option("scheduler", "constant_with_warmup")
@dataclass(slots=True)
class ConstantWithWarmup(Warm):
    """Rises, then stays: it does not fall. Good for short LoRA runs and reinforcement learning."""


@option("scheduler", "inverse_sqrt")
@dataclass(slots=True)
class InverseSqrt(Warm):
    """Rises, then falls as 1/√step. Hardly falls without a warmup: 95 % are left after 1000 steps."""

    timescale: int | None = knob(
        None, "How slowly it falls, in steps.",
        source="Vaswani et al., https://arxiv.org/abs/1706.03762; ORPO uses it with 200 warmup steps",
        bounds=at_least(1), usual=Range(10, 10_000), advice="Lower it to fall sooner.",
        empty=Empty("the warmup steps; 10,000 where there are none", _timescale, "steps"),
    )


@option("scheduler", "reduce_lr_on_plateau")
@dataclass(slots=True)
class ReduceLrOnPlateau(Scheduler):
    """Stays until the validation loss stops falling, then is cut. Needs a validation part; counts evaluations."""

    builds: ClassVar[str] = "fulgurite.scheduler.plateau:build"
    monitors: ClassVar[bool] = True

    patience: int = knob(
        2, "How many evaluations without a better loss are borne before a cut.",
        source="Ours; transformers' default is 10 evaluations",
        bounds=at_least(0), usual=between(1, 10), advice="Raise it when the validation loss is noisy.",
    )
    factor: float = knob(
        0.5, "What the rate is multiplied by at a cut.", source="Ours; torch's default is 0.1",
        bounds=Range(0, 1, open_low=True, open_high=True), usual=between(0.1, 0.8), advice="Lower it for a harder cut.",
    )


@option("scheduler", "warmup_stable_decay")
@dataclass(slots=True)
class WarmupStableDecay(Warm):
    """Rises, stays, then falls at the end (WSD). Take it when the length of the run is not known for sure."""

    decay_ratio: float = knob(
        0.2, "The share of the run in which the rate falls at the end.",
        source="WSD, Hu et al., https://arxiv.org/abs/2404.06395; 0.2 is ours, LLaMA-Factory uses 2/3 (verified)",
        bounds=Range(0, 1, open_low=True), usual=between(0.1, 0.67), advice="Raise it for a gentler end.",
    )
    min_ratio: float = knob(
        0.0, "The floor, as a share of optim.lr.", source="transformers' default (verified)",
        bounds=between(0, 1), usual=between(0, 0.2), advice="0.1 keeps the end moving.",
    )
