"""Compute types: what each means for stored weights, trained weights, compute, gradients and optimizer state."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from fulgurite.config.schema import Derived, Empty, Option, knob, option

if TYPE_CHECKING:
    from fulgurite.config.facts import Facts
    from fulgurite.config.run import RunConfig

WIDTH = {"float32": 4, "float16": 2, "bfloat16": 2}
"""Bytes of a number, by the name of its dtype."""


@dataclass(slots=True)
class Precision(Option):
    """The five dtypes that a compute type fixes. The tests look at the live tensors and hold them against these
    names."""

    builds: ClassVar[str] = "fulgurite.precision.policy:build"
    lightning: ClassVar[str] = ""
    frozen: ClassVar[str] = ""
    trained: ClassVar[str] = ""
    compute: ClassVar[str] = ""
    gradients: ClassVar[str] = ""
    state: ClassVar[str] = ""
    chosen_by_device: ClassVar[bool] = False
    """Whether the device decides which of the others it is."""
    low_weights: ClassVar[bool] = False
    """Whether trained weights have 8 significant bits, so that small steps are rounded away."""
    scales_loss: ClassVar[bool] = False
    """Whether the loss is scaled, and with it the gradients, until the optimizer's step."""

    def step_rounding(self) -> Rounding | None:
        """How a step is rounded into low weights; None if weights are not low, or the run does not say."""
        return None


@option("precision", "auto")
@dataclass(slots=True)
class AutoPrecision(Precision):
    """bf16 where the device multiplies it natively; else fp16 on a GPU and fp32 on a CPU. The run says which and
    why."""

    chosen_by_device: ClassVar[bool] = True
    costs: ClassVar[str] = "Nothing."


@option("precision", "fp32")
@dataclass(slots=True)
class Fp32(Precision):
    """Everything in 32 bits, the frozen base too. Take it on an old CPU, or to debug. 16 bytes a trained parameter
    with Adam."""

    lightning: ClassVar[str] = "32-true"
    frozen: ClassVar[str] = "float32"
    trained: ClassVar[str] = "float32"
    compute: ClassVar[str] = "float32"
    gradients: ClassVar[str] = "float32"
    state: ClassVar[str] = "float32"
    costs: ClassVar[str] = "Twice bf16's memory for weights that are frozen; slow on GPUs."


@option("precision", "bf16")
@dataclass(slots=True)
class Bf16(Precision):
    """Computes in bf16, learns in fp32: the frozen base is stored in bf16, what is trained stays fp32. The usual
    choice."""

    lightning: ClassVar[str] = "bf16-mixed"
    frozen: ClassVar[str] = "bfloat16"
    trained: ClassVar[str] = "float32"
    compute: ClassVar[str] = "bfloat16"
    gradients: ClassVar[str] = "float32"
    state: ClassVar[str] = "float32"
    costs: ClassVar[str] = "16 bytes a trained weight with AdamW, 2 a frozen one: it does not halve a full fine-tuning."
    misread: ClassVar[str] = (
        "It does not halve the memory of a full fine-tuning: what is trained stays fp32. precision=pure_bf16 does, at "
        "a price."
    )


@option("precision", "fp16")
@dataclass(slots=True)
class Fp16(Precision):
    """Computes in fp16 under a loss scaler, learns in fp32. For GPUs without bf16 (T4, V100); refused on a CPU.

    fp16 has 11 significant bits and ends at 65,504; bf16 has 8, and the range of fp32, up to 3.4e38. So fp16 is finer
    and overflows, which the scaler prevents, and bf16 is coarser and needs none.
    """

    lightning: ClassVar[str] = "16-mixed"
    scales_loss: ClassVar[bool] = True
    frozen: ClassVar[str] = "float16"
    trained: ClassVar[str] = "float32"
    compute: ClassVar[str] = "float16"
    gradients: ClassVar[str] = "float32"
    state: ClassVar[str] = "float32"
    costs: ClassVar[str] = "As bf16; a step whose gradients overflow is skipped."


class Rounding(StrEnum):
    """How a step's result is put into bf16."""

    nearest = "nearest"
    stochastic = "stochastic"
    kahan = "kahan"


def _rounding(run: RunConfig, facts: Facts) -> Derived:
    if run.optim.alone:
        return Derived(
            Rounding.stochastic, "right on average; to the nearest, steps below 1/512 of a weight would vanish"
        )
    return Derived(
        Rounding.nearest,
        f"optim={run.optim.name} does not step each parameter by itself, so only plain rounding is left",
    )


@option("precision", "pure_bf16")
@dataclass(slots=True)
class PureBf16(Precision):
    """Everything in bf16, the optimizer's state too: half the memory. Rounded to the nearest, small steps vanish.

    A weight has 8 significant bits: a step below 1/512 of it changes nothing. `train/unchanged` logs the share of
    weights that a step left as they were.
    """

    lightning: ClassVar[str] = "bf16-true"
    low_weights: ClassVar[bool] = True
    frozen: ClassVar[str] = "bfloat16"
    trained: ClassVar[str] = "bfloat16"
    compute: ClassVar[str] = "bfloat16"
    gradients: ClassVar[str] = "bfloat16"
    state: ClassVar[str] = "bfloat16"
    costs: ClassVar[str] = "8 bytes a trained weight with AdamW; each step is rounded."

    rounding: Rounding | None = knob(
        None,
        "How a step is rounded into bf16: to the nearest; up or down by chance, right on average; or to the nearest "
        "with what was lost kept for the next step, at 2 more bytes a weight.",
        source=(
            "Zamirai et al., https://arxiv.org/abs/2010.06192 (unverified); measured: at 1e-5 nearest leaves 84 % of "
            "weights unchanged"
        ),
        advice="stochastic; kahan when runs must not hang on chance; nearest only with rates above 1e-4.",
        empty=Empty("stochastic where the optimizer steps each parameter by itself, else nearest", _rounding),
        interacts={"optim.lr": "below 1e-4 the nearest loses most steps"},
        memory="kahan keeps 2 more bytes a trained weight.",
        time="stochastic draws a number for each weight.",
    )

    def step_rounding(self) -> Rounding | None:
        return self.rounding

    def find_refusal(self, run: RunConfig) -> str | None:
        """Why a step cannot be rounded so, in one sentence, or None."""
        if run.optim.alone or self.rounding in (None, Rounding.nearest):
            return None
        return (
            f"precision.rounding={self.rounding} needs an optimizer that steps each parameter by itself, and "
            f"optim={run.optim.name} "
            "does not; take optim=adamw, or precision.rounding=nearest."
        )
