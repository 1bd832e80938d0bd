"""Optimizers whose state belongs to single numbers, or to rows and columns."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from fulgurite.config.schema import above, at_least, below, between, knob, option
from fulgurite.optim.config.base import COUNT, Optim


@option("optim", "adamw")
@dataclass(slots=True)
class AdamW(Optim):
    """Adam with decoupled weight decay, in torch's fused form. The first choice."""

    builds: ClassVar[str] = "fulgurite.optim.adamw:build"
    works_on_shards: ClassVar[bool] = True
    smaller_state: ClassVar[str] = "adamw_8bit"
    alone: ClassVar[bool] = True
    costs: ClassVar[str] = "8 bytes of state per trained weight in fp32."

    betas: list[float] = knob(
        [0.9, 0.999], "Decay rates of the running mean and variance of the gradient: how long they remember.",
        source="AdamW, Loshchilov and Hutter, https://arxiv.org/abs/1711.05101; 0.95 in long runs (InstructGPT)",
        bounds=below(0, 1), usual=between(0.8, 0.999), advice="Leave them in short runs.",
        raise_when="For small, noisy batches: closer to 1.",
        lower_when="In long runs, in reinforcement learning, and if the loss recovers slowly from spikes: the second "
        "to "
        "0.95.",
        interacts={"trainer.global_batch_size": "small batches need a longer memory"},
    )
    eps: float = knob(
        1e-8,
        "A small number that keeps the division by the root of the variance finite.",
        source="torch's and HF's default (verified)",
        bounds=above(0),
        usual=between(1e-8, 1e-6),
        advice="Leave it.",
        leave="It matters only if gradients are as small as it is.",
    )


@option("optim", "adamw_8bit")
@dataclass(slots=True)
class AdamW8bit(AdamW):
    """AdamW with 8-bit moments, from bitsandbytes; works on a CPU too. For full fine-tuning if memory is short.

    Each block of 256 numbers has its own scale. Tensors below 4096 numbers keep 32 bits, as in bitsandbytes.
    """

    builds: ClassVar[str] = "fulgurite.optim.adamw_8bit:build"
    lr_factor: ClassVar[tuple[float, str]] = (
        1.0,
        "the same steps with rounded state, https://arxiv.org/abs/2110.02861",
    )
    alone: ClassVar[bool] = False
    scratch: ClassVar[tuple[float, float]] = (20.0, 24.0)
    costs: ClassVar[str] = "About 2 bytes of state per trained weight."

    def state_bytes(self, shape: tuple[int, ...], width: int, hidden: bool = True) -> int:
        """Returns two bytes per number and two fp32 scales per block of 256, without the two tables of 256 code values
        that parameters share."""
        numbers = math.prod(shape)
        return 8 * numbers if numbers < 4096 else 2 * numbers + 2 * 4 * math.ceil(numbers / 256)


@option("optim", "paged_adamw_8bit")
@dataclass(slots=True)
class PagedAdamW8bit(AdamW8bit):
    """`adamw_8bit` whose state moves to CPU memory if GPU memory is short. On a CPU it is `adamw_8bit`, and the run
    prints so."""

    builds: ClassVar[str] = "fulgurite.optim.adamw_8bit:build_paged"
    costs: ClassVar[str] = "About 2 bytes of state per trained weight; slow while it pages."


@option("optim", "sgd")
@dataclass(slots=True)
class Sgd(Optim):
    """Stochastic gradient descent with momentum. For teaching and comparisons: language models need Adam."""

    builds: ClassVar[str] = "fulgurite.optim.sgd:build"
    works_on_shards: ClassVar[bool] = True
    lr_factor: ClassVar[tuple[float, str]] = (
        100.0, "its updates are not divided by a running variance: 10 to 1000 times, unverified, ours",
    )
    alone: ClassVar[bool] = True
    costs: ClassVar[str] = "4 bytes of state per trained weight, none without momentum; needs many more steps."

    momentum: float = knob(
        0.9, "Share of the last update that is added to the next.", source="Common practice; torch's default is 0",
        bounds=below(0, 1), usual=between(0.8, 0.99), advice="0.9; 0 is plain gradient descent.",
        raise_when="To smooth the updates of noisy batches.", lower_when="If the loss oscillates.",
        interacts={"optim.lr": "the update grows by 1 / (1 - momentum)"},
        memory="0 needs no state at all.",
    )

    def state_bytes(self, shape: tuple[int, ...], width: int, hidden: bool = True) -> int:
        """Returns the bytes of the momentum."""
        return width * math.prod(shape) if self.momentum else 0


@option("optim", "adafactor")
@dataclass(slots=True)
class Adafactor(Optim):
    """AdamW with almost no state: a row and a column instead of a matrix. For full fine-tuning if memory is short."""

    builds: ClassVar[str] = "fulgurite.optim.adafactor:build"
    lr_factor: ClassVar[tuple[float, str]] = (
        20.0, "its rate is relative to the size of the weights, about 0.05 in a language model, ours",
    )
    alone: ClassVar[bool] = True
    scratch: ClassVar[tuple[float, float]] = (4.0, 2.0)
    costs: ClassVar[str] = "Almost no state; often slightly worse than AdamW."

    beta2_decay: float = knob(
        -0.8, "Exponent of the decay of the variance: at step t the newest gradient has the weight t to this power.",
        source="Adafactor, Shazeer and Stern, https://arxiv.org/abs/1804.04235; torch's default",
        bounds=between(-1, 0), usual=between(-0.9, -0.5), advice="Leave it.",
        leave="The paper's value works for runs of every length.",
    )
    clip_threshold: float = knob(
        1.0,
        "Maximum root mean square of an update; a larger update is scaled down to it.",
        source="Adafactor, Shazeer and Stern, https://arxiv.org/abs/1804.04235; torch's default",
        bounds=at_least(1),
        usual=between(1, 2),
        advice="Leave it, and set trainer.max_grad_norm=0.",
        leave="The paper's value; it keeps Adafactor stable without momentum.",
        interacts={"trainer.max_grad_norm": "one clipping is enough: set that to 0"},
    )

    def state_bytes(self, shape: tuple[int, ...], width: int, hidden: bool = True) -> int:
        """Returns a number per row and per column of a matrix; a vector keeps its whole variance."""
        if len(shape) < 2:
            return width * math.prod(shape) + COUNT
        *outer, rows, columns = shape
        return width * math.prod(outer) * (rows + columns) + COUNT


@option("optim", "lion")
@dataclass(slots=True)
class Lion(Optim):
    """Updates of one size along the sign of a running mean: half of Adam's state. For large batches; needs a third of
    AdamW's rate or less."""

    builds: ClassVar[str] = "fulgurite.optim.lion:build"
    works_on_shards: ClassVar[bool] = True
    lr_factor: ClassVar[tuple[float, str]] = (
        0.3, "lion-pytorch's README: a third to a tenth, and a third was best in its own tests (verified)",
    )
    alone: ClassVar[bool] = True
    scratch: ClassVar[tuple[float, float]] = (4.0, 2.0)
    costs: ClassVar[str] = "4 bytes of state per trained weight; sensitive to the learning rate."

    betas: list[float] = knob(
        [0.9, 0.99],
        "Weight of the running mean in the update, and how long the running mean remembers.",
        source="Lion, Chen et al., https://arxiv.org/abs/2302.06675; lion-pytorch's README (verified)",
        bounds=below(0, 1),
        usual=between(0.9, 0.99),
        advice="Leave them if training is stable.",
        raise_when="For small, noisy batches.",
        lower_when="If training is unstable: [0.95, 0.98].",
        interacts={"optim.weight_decay": "use 3 to 10 times AdamW's"},
    )

    def state_bytes(self, shape: tuple[int, ...], width: int, hidden: bool = True) -> int:
        """Returns the bytes of one running mean."""
        return width * math.prod(shape)
