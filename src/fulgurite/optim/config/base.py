"""What every optimizer declares."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from fulgurite.config.schema import Derived, Empty, Option, Range, above, between, knob
from fulgurite.optim import default_lrs as rates

if TYPE_CHECKING:
    from fulgurite.config.run import RunConfig


COUNT = 4
"""Bytes of the step count that torch's AdamW and Adafactor keep for each parameter, an fp32 number."""


class Decay(StrEnum):
    """What weight decay takes from."""

    matrices = "matrices"
    all = "all"


@dataclass(slots=True)
class Optim(Option):
    """What every optimizer has."""

    alone: ClassVar[bool] = False
    """Whether a parameter's step depends on nothing but the parameter, its gradient and its state: then its result
    can be rounded."""
    lr_factor: ClassVar[tuple[float, str]] = (1.0, "")
    """How many times AdamW's rate it takes, and who says so; without a source its name is not given as a reason."""
    averages: ClassVar[bool] = False
    """Whether it evaluates, samples and saves other weights than those that it trains, their average."""
    starts_together: ClassVar[bool] = False
    """Whether its state counts steps for all parameters together, so that none may begin later."""
    smaller_state: ClassVar[str] = ""
    """The optimizer that takes the same steps with less state, as a remedy for a shortage of memory. Not inherited."""
    scratch: ClassVar[tuple[float, float]] = (0.0, 0.0)
    """Bytes a number of the largest weight that a step takes while it lasts: of fp32 weights, of 16-bit ones. A test
    counts them."""

    lr: float | None = knob(
        None,
        "The learning rate: the size of each step at its peak. Wrong by ten, no other knob repairs it.",
        source="A table by stage, method and model size, after TRL, Tülu 3, Zephyr, QLoRA and SmolLM2 (verified): "
        "fulgurite/optim/default_lrs.py names who used what",
        bounds=above(0, 1),
        usual=rates.usual,
        advice="Raise it 2 to 5 times if the loss lies flat and samples do not change; "
        "divide by 2 to 5 on spikes or repetition. LoRA takes about ten times the rate of full fine-tuning, "
        "and qlora LoRA's; ia3 takes 3 and vera 5 times that; layerwise and llama_pro take full's, "
        "freeze and oft 3 times full's.",
        empty=Empty("from the stage, the method and the model's size", rates.recommend),
        raise_when="When the loss lies flat from the start and samples do not change: 2 to 5 times.",
        lower_when="On spikes, on repetition in samples, when most steps are clipped and the loss does not fall, "
        "or when chosen rewards fall in DPO: divide by 2 to 5.",
        interacts={
            "method.alpha": "alpha / rank multiplies the step of an adapter",
            "trainer.global_batch_size": "a larger batch bears a larger rate, about by its root",
            "scheduler.warmup_ratio": "a high rate needs a warmup",
            "trainer.max_steps": "too few steps are not mended by a higher rate",
        },
        misread="The number of rows does not decide the rate: stage, method and the model's size do. "
        "5e-5 is only a widespread default.",
    )
    weight_decay: float = knob(
        0.0,
        "The share of each weight that a step takes away, times the learning rate; from which weights, "
        "optim.weight_decay_on says.",
        source="Tülu 3, QLoRA and HF 0, torch and torchtune 0.01 (verified)",
        bounds=between(0, 1),
        usual=between(0, 0.1),
        advice="0.01 to 0.1 for long full fine-tuning.",
        raise_when="When a long full fine-tuning over-fits: 0.01 to 0.1.",
        lower_when="When a model whose own weights train forgets what it knew; an adapter decays to nothing, "
        "towards the base.",
        interacts={
            "optim.lr": "what is taken away is lr times the decay",
            "optim.weight_decay_on": "says from which weights it is taken",
        },
    )
    weight_decay_on: Decay = knob(
        Decay.matrices,
        "What weight decay takes from: matrices, or all weights, which are norms, biases and embeddings too.",
        source="Common practice since GPT-2 (nanoGPT, OLMo-core): norms and biases have a right size, "
        "and it is not zero",
        advice="Leave it; all repeats recipes that give the optimizer every weight alike.",
    )

    def own_rate(self) -> tuple[Derived, Range] | None:
        """A learning rate, with its usual range, that depends on neither stage, method nor model; None if the
        table's rates hold."""
        return None

    def state_bytes(self, shape: tuple[int, ...], width: int, hidden: bool = True) -> int:
        """Bytes of state for a trained parameter of this shape, whose dtype has `width` bytes a number.

        `hidden` says of a matrix that it lies inside the model: not embedding, not head, not an adapter's factor.
        An optimizer that does not say counts as Adam: two moments, and a count of steps.
        """
        return 2 * width * math.prod(shape) + COUNT

    def total_state_bytes(self, shapes: Mapping[str, tuple[int, ...]], width: int, hidden: Collection[str]) -> int:
        """Bytes of state at their most, for all trained parameters by name; `hidden` names the matrices inside the
        model."""
        return sum(self.state_bytes(shape, width, name in hidden) for name, shape in shapes.items())


def without_adapters(option: Option, run: RunConfig, why: str) -> str | None:
    """The refusal of a method whose trained weights are small matrices beside the model."""
    if not run.method.adapter:
        return None
    return f"optim={option.name} cannot be used with method={run.method.name}: {why}; take optim=adamw, or method=full."
