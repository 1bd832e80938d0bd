"""The parameters that every optimizer has, and what it declares about itself."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fulgurite.config.described import DescribedEnum
from fulgurite.config.schema import Derived, Empty, Option, Range, above, between, knob
from fulgurite.language.message import UserMessage, message
from fulgurite.optim import default_lrs as rates

if TYPE_CHECKING:
    from fulgurite.config.run import RunConfig


COUNT = 4
"""Bytes of the step count that torch's AdamW and Adafactor keep for each parameter, an fp32 number."""


class Decay(DescribedEnum):
    """The weights that weight decay applies to."""

    matrices = "matrices", "Matrices only; biases and the scales of norms are left as they are."
    all = "all", "Every trained weight."


@dataclass(slots=True)
class Optim(Option):
    """Base of all optimizers."""

    alone: ClassVar[bool] = False
    """Whether the update of a parameter depends only on the parameter, its gradient and its state, so that its result
    can be rounded."""
    works_on_shards: ClassVar[bool] = False
    """Whether its results are those of one device if each process holds a part of every weight (`strategy=fsdp`). Not
    inherited: each optimizer proves it for itself."""
    lr_factor: ClassVar[tuple[float, str]] = (1.0, "")
    """The factor on AdamW's rate, and its source; without a source its name is not given as a reason."""
    averages: ClassVar[bool] = False
    """Whether it evaluates, samples and saves the average of the weights instead of the weights that it trains."""
    starts_together: ClassVar[bool] = False
    """Whether its state counts steps for all parameters together, so that none may begin later."""
    smaller_state: ClassVar[str] = ""
    """The optimizer that makes the same updates with less state, as a remedy if memory is short. Not inherited."""
    scratch: ClassVar[tuple[float, float]] = (0.0, 0.0)
    """Temporary bytes of a step per number of the largest weight: for fp32 weights, for 16-bit weights. A test measures
    them."""

    lr: float | None = knob(
        None,
        "Peak learning rate. If it is wrong by a factor of ten, no other parameter can repair it.",
        source="A table by stage, method and model size, after TRL, Tülu 3, Zephyr, QLoRA and SmolLM2 (verified): "
        "fulgurite/optim/default_lrs.py has the sources",
        bounds=above(0, 1),
        usual=rates.usual,
        advice="Leave it empty first. LoRA needs about ten times the rate of full fine-tuning, and qlora the same as "
        "LoRA; "
        "ia3 3 times and vera 5 times LoRA's; layerwise and llama_pro the rate of full, freeze and oft 3 times that.",
        empty=Empty("from the stage, the method and the model's size", rates.recommend),
        raise_when="If the loss is flat from the start and samples do not change: multiply by 2 to 5.",
        lower_when="If the loss spikes, if samples repeat themselves, if most steps are clipped and the loss does not "
        "fall, "
        "or if chosen rewards fall in DPO: divide by 2 to 5.",
        interacts={
            "method.alpha": "alpha / rank multiplies the update of an adapter",
            "trainer.global_batch_size": "a larger batch allows a larger rate, about by its square root",
            "scheduler.warmup_ratio": "a high rate needs a warmup",
            "trainer.max_steps": "a higher rate does not make up for too few steps",
        },
        misread="The number of examples does not decide the rate: stage, method and model size do. "
        "5e-5 is only a widespread default.",
    )
    weight_decay: float = knob(
        0.0,
        "Decoupled weight decay: each step subtracts lr × weight_decay × weight.",
        source="Tülu 3, QLoRA and HF 0, torch and torchtune 0.01 (verified)",
        bounds=between(0, 1),
        usual=between(0, 0.1),
        advice="0.01 to 0.1 for long full fine-tuning.",
        raise_when="If long full fine-tuning over-fits.",
        lower_when="If full fine-tuning forgets what the model knew. With LoRA a lower value forgets more: the adapter "
        "decays to 0, towards the base model.",
        interacts={
            "optim.lr": "each step subtracts lr times the decay",
            "optim.weight_decay_on": "the weights that it applies to",
        },
    )
    weight_decay_on: Decay = knob(
        Decay.matrices,
        "The weights that weight decay applies to: matrices, or all, which includes norms, biases and embeddings.",
        source="Common practice since GPT-2 (nanoGPT, OLMo-core): the right size of norms and biases is not zero",
        advice="matrices; all only to repeat a recipe that decays every weight.",
    )

    def own_rate(self) -> tuple[Derived, Range] | None:
        """Returns a learning rate and its usual range that depend on neither stage, method nor model; None if the
        table's rates apply."""
        return None

    def state_bytes(self, shape: tuple[int, ...], width: int, hidden: bool = True) -> int:
        """Returns the bytes of state of a trained parameter of this shape, whose dtype has `width` bytes per number.

        `hidden` is true for a matrix inside the model: not an embedding, a head, or an adapter's factor.
        The default is Adam's: two moments, and a count of steps.
        """
        return 2 * width * math.prod(shape) + COUNT

    def total_state_bytes(self, shapes: Mapping[str, tuple[int, ...]], width: int, hidden: Collection[str]) -> int:
        """Returns the largest bytes of state of all trained parameters by name; `hidden` names the matrices inside the
        model."""
        return sum(self.state_bytes(shape, width, name in hidden) for name, shape in shapes.items())


def without_adapters(option: Option, run: RunConfig, why: UserMessage) -> UserMessage | None:
    """Returns the refusal of a method that trains an adapter; None if the method trains the model's own weights."""
    if not run.method.adapter:
        return None
    return message(
        "optim={optim} cannot be used with method={method}: {why}; use optim=adamw, or method=full.",
        optim=option.name, method=run.method.name, why=why,
    )
