"""Compute types: the dtypes of frozen weights, trained weights, compute, gradients and optimizer state in each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fulgurite.config.described import DescribedEnum
from fulgurite.config.schema import Derived, Empty, Option, knob, option
from fulgurite.language.message import UserMessage, message

if TYPE_CHECKING:
    from fulgurite.config.facts import Facts
    from fulgurite.config.run import RunConfig

WIDTH = {"float32": 4, "float16": 2, "bfloat16": 2}
"""Bytes of a number, by the name of its dtype."""


@dataclass(slots=True)
class Precision(Option):
    """The five dtypes that a compute type fixes. The tests compare them with the dtypes of the live tensors."""

    builds: ClassVar[str] = "fulgurite.precision.policy:build"
    lightning: ClassVar[str] = ""
    frozen: ClassVar[str] = ""
    trained: ClassVar[str] = ""
    compute: ClassVar[str] = ""
    gradients: ClassVar[str] = ""
    state: ClassVar[str] = ""
    chosen_by_device: ClassVar[bool] = False
    """Whether the device decides which of the other compute types is used."""
    low_weights: ClassVar[bool] = False
    """Whether trained weights have 8 significant bits, so that small updates are rounded away."""
    scales_loss: ClassVar[bool] = False
    """Whether the loss, and with it the gradients, is scaled until the optimizer's step."""

    def step_rounding(self) -> Rounding | None:
        """Returns how an update is rounded into bf16 weights; None if weights are wider, or if it is still to be
        derived."""
        return None


@option("precision", "auto")
@dataclass(slots=True)
class AutoPrecision(Precision):
    """bf16 if the device multiplies it natively; if not, fp16 on a GPU and fp32 on a CPU. The run prints which one,
    and why."""

    chosen_by_device: ClassVar[bool] = True
    costs: ClassVar[str] = "Nothing."


@option("precision", "fp32")
@dataclass(slots=True)
class Fp32(Precision):
    """Everything in 32 bits, frozen weights too. For old CPUs and for debugging. 16 bytes per trained parameter
    with Adam."""

    lightning: ClassVar[str] = "32-true"
    frozen: ClassVar[str] = "float32"
    trained: ClassVar[str] = "float32"
    compute: ClassVar[str] = "float32"
    gradients: ClassVar[str] = "float32"
    state: ClassVar[str] = "float32"
    costs: ClassVar[str] = "Twice the memory of bf16 for frozen weights; slow on GPUs."


@option("precision", "bf16")
@dataclass(slots=True)
class Bf16(Precision):
    """Mixed precision: computes in bf16, keeps trained weights in fp32 and frozen weights in bf16. The usual choice.
    """

    lightning: ClassVar[str] = "bf16-mixed"
    frozen: ClassVar[str] = "bfloat16"
    trained: ClassVar[str] = "float32"
    compute: ClassVar[str] = "bfloat16"
    gradients: ClassVar[str] = "float32"
    state: ClassVar[str] = "float32"
    costs: ClassVar[str] = "16 bytes per trained weight with AdamW, 2 per frozen weight."
    misread: ClassVar[str] = (
        "It does not halve the memory of full fine-tuning: trained weights stay fp32. precision=pure_bf16 does, but "
        "loses small updates."
    )


@option("precision", "fp16")
@dataclass(slots=True)
class Fp16(Precision):
    """Mixed precision with a loss scaler: computes in fp16, keeps trained weights in fp32. For GPUs without bf16 (T4,
    V100); refused on a CPU.

    fp16 has 11 significant bits and a largest number of 65,504; bf16 has 8 bits and the range of fp32, up to 3.4e38.
    So fp16 is more precise but can overflow, which the loss scaler prevents; bf16 is less precise and needs no scaler.
    """

    lightning: ClassVar[str] = "16-mixed"
    scales_loss: ClassVar[bool] = True
    frozen: ClassVar[str] = "float16"
    trained: ClassVar[str] = "float32"
    compute: ClassVar[str] = "float16"
    gradients: ClassVar[str] = "float32"
    state: ClassVar[str] = "float32"
    costs: ClassVar[str] = "The same as bf16; a step is skipped if its gradients overflow."


class Rounding(DescribedEnum):
    """How an updated weight is rounded to bf16."""

    nearest = "nearest", "To the nearest bf16 number; small updates are lost."
    stochastic = "stochastic", "Up or down by chance, in proportion: right on average."
    kahan = "kahan", "Keeps what rounding lost and adds it in the next step; two more bytes a weight."


def _rounding(run: RunConfig, facts: Facts) -> Derived:
    if not run.strategy.replicates:
        return Derived(
            Rounding.nearest,
            message(
                "strategy={strategy} gives each process a part of every weight, with which no other rounding works",
                strategy=run.strategy.name,
            ),
        )
    if run.optim.alone:
        return Derived(
            Rounding.stochastic,
            message("right on average; rounding to nearest would lose updates below 1/512 of a weight"),
        )
    return Derived(
        Rounding.nearest,
        message(
            "optim={optim} does not update each parameter separately, which every other rounding needs",
            optim=run.optim.name,
        ),
    )


@option("precision", "pure_bf16")
@dataclass(slots=True)
class PureBf16(Precision):
    """Everything in bf16, optimizer state too: half the memory. If rounded to nearest, small updates are lost.

    A weight has 8 significant bits: an update below 1/512 of the weight changes nothing. `train/unchanged` logs the
    share of weights that a step did not change.
    """

    lightning: ClassVar[str] = "bf16-true"
    low_weights: ClassVar[bool] = True
    frozen: ClassVar[str] = "bfloat16"
    trained: ClassVar[str] = "bfloat16"
    compute: ClassVar[str] = "bfloat16"
    gradients: ClassVar[str] = "bfloat16"
    state: ClassVar[str] = "bfloat16"
    costs: ClassVar[str] = "8 bytes per trained weight with AdamW; each update is rounded."

    rounding: Rounding | None = knob(
        None,
        "How an updated weight is rounded to bf16: to nearest; stochastically, which is right on average; or kahan: to "
        "nearest, with the rounding error kept for the next step, at 2 more bytes per weight.",
        source=(
            "Zamirai et al., https://arxiv.org/abs/2010.06192 (unverified); measured: at a learning rate of "
            "1e-5, nearest leaves 84 % of the weights unchanged"
        ),
        advice="stochastic; kahan if a run must not depend on random numbers; nearest only with a learning rate above "
        "1e-4.",
        empty=Empty("stochastic if the optimizer updates each parameter separately, nearest if not", _rounding),
        interacts={"optim.lr": "below 1e-4, nearest loses most updates"},
        memory="kahan keeps 2 more bytes per trained weight.",
        time="stochastic draws a random number for each weight.",
    )

    def step_rounding(self) -> Rounding | None:
        return self.rounding

    def find_refusal(self, run: RunConfig) -> UserMessage | None:
        """Returns why this rounding does not go with the optimizer, or None if it does."""
        if run.optim.alone or self.rounding in (None, Rounding.nearest):
            return None
        return message(
            "precision.rounding={rounding} needs an optimizer that updates each parameter separately, and "
            "optim={optim} does not; use optim=adamw, or precision.rounding=nearest.",
            rounding=self.rounding, optim=run.optim.name,
        )
