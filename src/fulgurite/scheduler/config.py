"""Learning rate schedules: ten curves, each a factor on the peak learning rate by step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fulgurite.config.schema import Derived, Empty, Option, Range, above, at_least, below, between, knob, option
from fulgurite.language.message import message

if TYPE_CHECKING:
    from fulgurite.config.facts import Facts
    from fulgurite.config.run import RunConfig

TIMESCALE = 10_000
"""Steps: transformers' timescale of inverse_sqrt if there is no warmup."""


def _warmup_steps(run: RunConfig, facts: Facts) -> Derived:
    ratio = run.scheduler.warmup_ratio or 0.0
    asked, most = math.ceil(ratio * facts.total_steps), max(facts.total_steps - 1, 0)
    if asked > most:
        return Derived(most, message(
            "{ratio:g} of {total} steps, less the last step, which is no warmup", ratio=ratio, total=facts.total_steps,
        ))
    return Derived(asked, message("{ratio:g} of {total} steps, rounded up", ratio=ratio, total=facts.total_steps))


def _warmup_ratio(run: RunConfig, facts: Facts) -> Derived:
    return Derived(0.1, message("10 % of the steps: Adam's moments are empty at first (Zephyr and SmolLM2 use 0.1)"))


def _timescale(run: RunConfig, facts: Facts) -> Derived:
    warmup = run.scheduler.warmup_steps or 0
    if warmup:
        return Derived(warmup, message("the warmup steps, as in transformers"))
    return Derived(
        TIMESCALE, message("as in transformers if there is no warmup: the rate hardly falls in a short run"),
    )


@dataclass(slots=True)
class Scheduler(Option):
    """Base of all schedules. It has no parameters."""

    builds: ClassVar[str] = "fulgurite.scheduler.curves:build"
    plots: ClassVar[bool] = True
    monitors: ClassVar[bool] = False
    """Whether it follows the validation loss instead of a curve over the optimizer steps. If so, it has the
    parameters `patience` and `factor`, and `builds` returns torch's ReduceLROnPlateau."""
    falls: ClassVar[bool] = True
    """Whether the rate falls after its peak."""
    steady: ClassVar[bool] = False
    """Whether the rate is the peak rate at every step."""


@dataclass(slots=True)
class Warm(Scheduler):
    """Base of the schedules with a warmup."""

    warmup_ratio: float | None = knob(
        None, "Share of the steps in which the learning rate rises from 0 to optim.lr.",
        source="Zephyr and SmolLM2 recipes 0.1 (alignment-handbook, verified); Tülu 3 and QLoRA 0.03 (verified)",
        bounds=below(0, 1), usual=between(0, 0.1),
        advice="0.1 in short runs, 0.03 in long ones.",
        empty=Empty("0.1", _warmup_ratio),
        raise_when="If the loss spikes in the first steps, and in short runs: at least 5 to 10 steps.",
        lower_when="In runs of many thousand steps: 0.03.",
        interacts={"scheduler.warmup_steps": "wins if it is given", "optim.lr": "a high rate needs a longer warmup"},
        misread="The first step has a learning rate of 0 and changes no weight, as in transformers (torchtitan starts "
        "at 1 / warmup steps).",
    )
    warmup_steps: int | None = knob(
        None,
        "Number of steps in which the learning rate rises from 0 to optim.lr; wins over scheduler.warmup_ratio.",
        source="The DPO authors' repository uses 150 steps (verified)",
        bounds=at_least(0), usual=between(0, 500),
        advice="Prefer scheduler.warmup_ratio: it follows the length of the run.",
        empty=Empty("from scheduler.warmup_ratio", _warmup_steps, "steps"),
        raise_when="If the loss spikes in the first steps.",
        lower_when="If the warmup takes more than a tenth of the steps.",
        interacts={"scheduler.warmup_ratio": "ignored if this is given"},
        misread="It is a whole number of steps; a fraction belongs to scheduler.warmup_ratio. The first step has a "
        "learning rate of 0 and changes no weight, as in transformers.",
    )


@option("scheduler", "linear")
@dataclass(slots=True)
class Linear(Warm):
    """Warmup, then a straight line to 0. In pre-training slightly better than a cosine that ends at 10 % of the peak.
    """

    costs: ClassVar[str] = "Nothing."


@option("scheduler", "cosine")
@dataclass(slots=True)
class Cosine(Warm):
    """Warmup, then half a cosine to 0. Use it if the length of the run is known."""

    costs: ClassVar[str] = "The length of the run must be known."


@option("scheduler", "cosine_with_restarts")
@dataclass(slots=True)
class CosineWithRestarts(Warm):
    """Cosine that falls `cycles` times and jumps back to the peak in between. One cycle is exactly cosine."""

    costs: ClassVar[str] = "The loss jumps at each restart."
    misread: ClassVar[str] = "With one cycle, the default of many tools, it is exactly cosine and never restarts."

    cycles: int = knob(
        2, "Number of times the learning rate falls from the peak to 0.",
        source="SGDR, Loshchilov and Hutter, https://arxiv.org/abs/1608.03983; transformers' default of 1 is cosine",
        bounds=at_least(1), usual=between(1, 5), advice="One cycle for each checkpoint that you want to keep.",
        raise_when="To get more checkpoints at a low learning rate.",
        lower_when="If the loss does not recover after each restart.",
        misread="One cycle, the default of many tools, is exactly cosine: nothing restarts.",
    )


@option("scheduler", "cosine_with_min_lr")
@dataclass(slots=True)
class CosineWithMinLr(Warm):
    """Cosine that ends at a minimum above 0. For long runs in which the last steps should still train."""

    costs: ClassVar[str] = "The last steps are slightly noisier than those of cosine."

    min_ratio: float = knob(
        0.1,
        "Minimum learning rate, as a share of optim.lr.",
        source="SmolLM3 0.1 (alignment-handbook, verified)",
        bounds=between(0, 1),
        usual=between(0, 0.2),
        advice="0 is exactly cosine.",
        raise_when="If the loss still falls at the end of the run.",
        lower_when="To reduce the noise of the last steps.",
        interacts={"optim.lr": "the minimum is a share of it"},
    )


@option("scheduler", "polynomial")
@dataclass(slots=True)
class Polynomial(Warm):
    """Warmup, then falls as a power of the steps left, to a small minimum. With power 1 it is linear, within 1e-7."""

    costs: ClassVar[str] = "Two more parameters."
    misread: ClassVar[str] = "With power 1, the default of many tools, it is linear."

    power: float = knob(
        2.0, "Exponent: above 1 the rate falls early, below 1 late.",
        source="transformers' default of 1 is plain linear",
        bounds=above(0), usual=between(0.5, 3), advice="2; 1 is a straight line.",
        raise_when="To let the rate fall earlier.", lower_when="To let the rate fall later.",
        misread="With power 1, the default of many tools, it is linear.",
    )
    lr_end: float = knob(
        1e-7, "Learning rate at the end, as an absolute value below optim.lr.",
        source="transformers' default (verified)",
        bounds=at_least(0), usual=between(0, 1e-5), advice="Leave it.",
        leave="It only keeps the end above 0.",
        interacts={"optim.lr": "must be larger"},
    )


@option("scheduler", "constant")
@dataclass(slots=True)
class Constant(Scheduler):
    """The peak learning rate at every step. For comparisons, or if another run continues from this one."""

    falls: ClassVar[bool] = False
    steady: ClassVar[bool] = True
    costs: ClassVar[str] = "The noise of the steps stays to the end."


@option("scheduler", "constant_with_warmup")
@dataclass(slots=True)
class ConstantWithWarmup(Warm):
    """Warmup, then the peak learning rate to the end. Good for short LoRA runs and reinforcement learning."""

    falls: ClassVar[bool] = False
    costs: ClassVar[str] = "The noise of the steps stays to the end."
    misread: ClassVar[str] = "It rises and then stays constant. It does not start large and then fall."


@option("scheduler", "inverse_sqrt")
@dataclass(slots=True)
class InverseSqrt(Warm):
    """Warmup, then falls as 1/√step. Without a warmup it hardly falls: 95 % is left after 1000 steps."""

    costs: ClassVar[str] = "It never reaches 0, and hardly falls in a short run."
    misread: ClassVar[str] = "Without a warmup it is nearly constant in a short run."

    timescale: int | None = knob(
        None,
        "Time scale of the fall, in steps: the larger, the slower.",
        source="Vaswani et al., https://arxiv.org/abs/1706.03762; ORPO uses it with 200 warmup steps",
        bounds=at_least(1),
        usual=Range(10, 10_000),
        advice="The warmup steps.",
        empty=Empty("the warmup steps; 10,000 if there are none", _timescale, "steps"),
        raise_when="To let the rate fall more slowly.",
        lower_when="To let the rate fall faster: without a warmup the default hardly falls in a short run.",
        interacts={"scheduler.warmup_steps": "used if this is empty"},
    )


@option("scheduler", "reduce_lr_on_plateau")
@dataclass(slots=True)
class ReduceLrOnPlateau(Scheduler):
    """Keeps the peak learning rate until the validation loss stops falling, then cuts it. Needs a validation set."""

    builds: ClassVar[str] = "fulgurite.scheduler.plateau:build"
    monitors: ClassVar[bool] = True
    costs: ClassVar[str] = "A validation set, and time for its evaluations."
    misread: ClassVar[str] = "It counts evaluations, not steps, and cannot run without a validation set."

    patience: int = knob(
        2, "Number of evaluations without a lower loss that are tolerated before a cut.",
        source="Ours; transformers' default is 10 evaluations",
        bounds=at_least(0), usual=between(1, 10), advice="2 to 5, so that one noisy evaluation does not cut the rate.",
        raise_when="If the validation loss is noisy.", lower_when="If the loss is flat for long before a cut.",
        interacts={"trainer.eval_every": "it counts evaluations, not steps", "data.val_fraction": "must be above 0"},
        misread="It counts evaluations, not optimizer steps.",
    )
    factor: float = knob(
        0.5, "Factor by which the learning rate is multiplied at a cut.", source="Ours; torch's default is 0.1",
        bounds=Range(0, 1, open_low=True, open_high=True), usual=between(0.1, 0.8),
        advice="0.5; 0.1 is torch's default.",
        raise_when="To cut the rate less at a time.", lower_when="To cut the rate more at a time.",
        interacts={"scheduler.patience": "small cuts allow a lower patience"},
    )


@option("scheduler", "warmup_stable_decay")
@dataclass(slots=True)
class WarmupStableDecay(Warm):
    """Warmup, then the peak learning rate, then a decay at the end (WSD). For runs whose length may still change."""

    costs: ClassVar[str] = "The loss falls late, in the decay."

    decay_ratio: float = knob(
        0.2, "Share of the steps, at the end of the run, in which the learning rate decays.",
        source="WSD, Hu et al., https://arxiv.org/abs/2404.06395; 0.2 is ours, LLaMA-Factory uses 2/3 (verified)",
        bounds=Range(0, 1, open_low=True), usual=between(0.1, 0.67), advice="0.1 to 0.2.",
        raise_when="To decay more slowly.", lower_when="To stay longer at the peak.",
        interacts={"scheduler.warmup_ratio": "the steps between the two run at the peak rate"},
    )
    min_ratio: float = knob(
        0.0, "Minimum learning rate, as a share of optim.lr.", source="transformers' default (verified)",
        bounds=between(0, 1), usual=between(0, 0.2), advice="0, or 0.1 to keep the last steps training.",
        raise_when="If the loss still falls at the end of the run: 0.1.",
        lower_when="To reduce the noise of the last steps.",
        interacts={"optim.lr": "the minimum is a share of it"},
    )
