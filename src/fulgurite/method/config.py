"""Which weights are trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fulgurite.schema import Derived, Empty, Option, above, below, between, knob, option

if TYPE_CHECKING:
    from fulgurite.run import Facts, RunConfig


def _alpha(run: RunConfig, facts: Facts) -> Derived:
    return Derived(2.0 * run.method.rank, f"twice the rank of {run.method.rank}, so that the scale stays 2 when the rank changes")


@dataclass(slots=True)
class Method(Option):
    """What every method has: no knobs."""

    adapter: ClassVar[bool] = False
    """Whether all that is trained is small matrices beside a frozen model, as in LoRA."""


@option("method", "full")
@dataclass(slots=True)
class Full(Method):
    """Trains every weight. Take it when memory allows and there is much data, or for a large change of domain."""

    builds: ClassVar[str] = "fulgurite.method.full:build"


@option("method", "lora")
@dataclass(slots=True)
class Lora(Method):
    """Freezes the model and trains small matrices added to its linear layers. The default: little memory, little forgetting."""

    builds: ClassVar[str] = "fulgurite.method.lora:build"
    adapter: ClassVar[bool] = True

    rank: int = knob(
        16, "The width of the added matrices: how much the adapter can learn.",
        source="TRL's PEFT table, SFT 256 and RL 1 to 32 (verified); QLoRA 64, PEFT and LLaMA-Factory 8 (verified)",
        bounds=between(1, 1024), usual=(8, 16, 32, 64),
        advice="Raise to 64 to 256 for new knowledge or above 50k rows; 8 to 32 are enough for a style.",
    )
    alpha: float | None = knob(
        None, "The scale of the adapter: its output is multiplied by alpha / rank.",
        source="LLaMA-Factory's command line and torchtune: twice the rank (verified)",
        bounds=above(0), usual=between(8, 128),
        advice="Leave it: pinned at 16, a rank of 64 instead of 8 cuts the scale from 2 to 0.25.",
        empty=Empty("twice the rank", _alpha),
    )
    dropout: float = knob(
        0.0, "The share of the adapter's inputs that is dropped in training.",
        source="QLoRA 0.1 at 7B and 0.05 at 65B, Zephyr QLoRA 0.05, others 0 (verified)",
        bounds=below(0, 1), usual=between(0, 0.1), advice="0.05 on fewer than 10,000 rows.",
    )
    targets: list[str] | None = knob(
        None, "The linear layers that get an adapter, by the last part of their names.",
        source="LoRA guide of TRL, Tinker primer, QLoRA: all layers; attention alone loses at equal size (verified)",
        advice="Leave it; name layers to repeat an older recipe.",
        empty=Empty("every linear layer but the head"),
    )
