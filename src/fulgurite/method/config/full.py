"""Methods that train weights of the model itself: all, some layers, layers by rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fulgurite.config.described import DescribedEnum
from fulgurite.config.schema import Empty, above, at_least, between, knob, option
from fulgurite.language.message import UserMessage, message
from fulgurite.method.config.base import Method

if TYPE_CHECKING:
    from fulgurite.config.run import RunConfig


@option("method", "full")
@dataclass(slots=True)
class Full(Method):
    """Trains every weight. Take it when memory allows and there is much data, or for a large change of domain."""

    builds: ClassVar[str] = "fulgurite.method.full:build"
    works_on_shards: ClassVar[bool] = True
    whole: ClassVar[bool] = True
    private: ClassVar[bool] = True
    new_tokens: ClassVar[bool] = True
    costs: ClassVar[str] = (
        "Memory for weights, gradients and optimizer state of everything: 16 bytes a weight with AdamW."
    )


class Part(DescribedEnum):
    """Everything outside the layers, and all norms."""

    embeddings = "embeddings", "The token embeddings; a head that shares their weights too."
    head = "head", "The output layer that predicts the next token."
    norms = "norms", "The scales of all normalisation layers."


@option("method", "freeze")
@dataclass(slots=True)
class Freeze(Method):
    """Trains some layers whole and freezes the rest. For comparisons, and for less memory than full without an
    adapter."""

    builds: ClassVar[str] = "fulgurite.method.freeze:build"
    works_on_shards: ClassVar[bool] = True
    lr_factor: ClassVar[float] = 3.0
    private: ClassVar[bool] = True
    prints_table: ClassVar[bool] = True
    costs: ClassVar[str] = (
        "Gradients and state for the thawed layers alone; the backward pass ends at the lowest of them."
    )

    trainable: str = knob(
        "last:2",
        "What is trained: last:N or first:N layers, layers:2,5-7, all, or a pattern of names such as mlp or *.q_proj.",
        source="LLaMA-Factory's freeze_trainable_layers, 2 by default (verified)",
        advice="More layers for more change. A pattern that matches nothing is an error.",
        interacts={"optim.lr": "takes 3 times full's rate"},
        memory="Gradients and state of the thawed layers alone.",
        time="The backward pass ends at the lowest thawed layer.",
        misread="It is not the least memory: an adapter trains far fewer weights.",
    )
    extra_trainable: list[Part] = knob(
        [],
        "What is trained besides: embeddings, head, norms.",
        source="LLaMA-Factory's freeze_extra_modules",
        advice="norms cost next to nothing; embeddings and head only for new words.",
    )

    def trains_head(self) -> bool:
        return Part.head in self.extra_trainable


@option("method", "layerwise")
@dataclass(slots=True)
class Layerwise(Method):
    """Trains some layers whole, adapts others by LoRA, and freezes the rest: the mixture between full and freeze.

    Some guides call this mixture LOFA, or take LoRA for it. LoRA (method=lora) freezes the whole model and adds small
    matrices. Take layerwise to spend memory where it matters, with rates by depth, or to thaw layer by layer.
    """

    builds: ClassVar[str] = "fulgurite.method.layerwise:build"
    leaves_out: ClassVar[bool] = True
    prints_table: ClassVar[bool] = True
    costs: ClassVar[str] = "What its full layers cost, and little for the rest."
    misread: ClassVar[str] = "This mixture is not LoRA, although some guides call it so."

    rules: list[str] = knob(
        ["last:2 full", "rest lora"],
        "A rule each: a place as in method=freeze (or rest: the layers that no rule names), then frozen, full or "
        "lora, then options "
        "rank=, alpha=, lr= (a factor on optim.lr; 10 for lora where none is given).",
        source=(
            "Ours; layers trained in turn: LISA, https://arxiv.org/abs/2403.17919; ten times the rate for LoRA: TRL "
            "(verified)"
        ),
        advice="Rules that overlap or match nothing are errors; what no rule names stays frozen. "
        "Example: method.rules='[\"first:10 frozen\",\"last:4 full lr=0.5\",\"rest lora rank=8\"]'.",
    )
    layer_decay: float = knob(
        1.0, "Each layer's rate is this times the rate of the layer above it.",
        source="ULMFiT, Howard and Ruder, https://arxiv.org/abs/1801.06146: 1/2.6 (unverified)",
        bounds=above(0, 1), usual=between(0.3, 1), advice="0.9 for a gentle slope in a deep model; 1 turns it off.",
        raise_when="When the lower layers learn too little; 1 turns it off.",
        lower_when="Against forgetting: lower layers hold what is general.",
        interacts={"optim.lr": "the rate of the top layer", "method.rules": "their lr= multiplies it"},
    )
    unfreeze_every: int | None = knob(
        None,
        "Layers thaw from the top, one more every so many optimizer steps.",
        source="ULMFiT, Howard and Ruder, https://arxiv.org/abs/1801.06146: one layer an epoch",
        bounds=at_least(1),
        usual=(10, 50, 100),
        advice="Only against forgetting: a run must be long enough to thaw everything.",
        empty=Empty("all that is trained is trained from the first step"),
        raise_when="When each thawed layer still learns.",
        lower_when="In short runs: all must thaw before the end.",
        interacts={"trainer.epochs": "the run must be long enough to thaw everything"},
        memory="The peak is at the end, when all is thawed.",
        time="Steps are quicker while layers rest.",
    )


    def find_refusal(self, run: RunConfig) -> UserMessage | None:
        """Returns why layers cannot thaw one by one in this run, or None."""
        if self.unfreeze_every is None:
            return None
        if run.world_size > 1:
            return message(
                "method.unfreeze_every lets layers rest, and the {count} processes wait for them; use "
                "trainer.devices=1.",
                count=run.world_size,
            )
        if run.optim.starts_together:
            return message(
                "method.unfreeze_every starts layers late, and optim={optim} counts steps for all of them; use "
                "optim=adamw.",
                optim=run.optim.name,
            )
        return None
