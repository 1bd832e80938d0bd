"""Optimizers that keep their state number by number, or nearly so."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from fulgurite.config.schema import above, at_least, below, between, knob, option
from fulgurite.optim.config.base import COUNT, Optim


@option("optim", "adamw")
@dataclass(slots=True)
class AdamW(Optim):
    """Adam with decoupled weight decay, torch's fused form. Always the first choice."""

    builds: ClassVar[str] = "fulgurite.optim.adamw:build"
    smaller_state: ClassVar[str] = "adamw_8bit"
    alone: ClassVar[bool] = True
    costs: ClassVar[str] = "8 bytes of state a trained weight in fp32."

    betas: list[float] = knob(
        [0.9, 0.999], "How long the running mean and variance of the gradient remember.",
        source="AdamW, Loshchilov and Hutter, https://arxiv.org/abs/1711.05101; 0.95 in long runs (InstructGPT)",
        bounds=below(0, 1), usual=between(0.8, 0.999), advice="[0.9, 0.95] for long runs and reinforcement learning.",
        raise_when="Nearer to 1 for small, noisy batches.",
        lower_when=(
            "The second to 0.95 in long runs, in reinforcement learning, and when spikes must be forgotten soon."
        ),
        interacts={"trainer.global_batch_size": "small batches want a longer memory"},
    )
    eps: float = knob(
        1e-8,
        "A small number that keeps the division by the root of the variance finite.",
        source="torch's and HF's default (verified)",
        bounds=above(0),
        usual=between(1e-8, 1e-6),
        advice="Leave it.",
        leave="It matters only where gradients are as small as it is.",
    )


@option("optim", "adamw_8bit")
@dataclass(slots=True)
class AdamW8bit(AdamW):
    """AdamW whose moments are kept in 8 bits, from bitsandbytes; works on a CPU too. For full fine-tuning when
    memory is short.

    Each block of 256 numbers has a scale of its own. Tensors below 4096 numbers keep 32 bits, as bitsandbytes does
    it.
    """

    builds: ClassVar[str] = "fulgurite.optim.adamw_8bit:build"
    lr_factor: ClassVar[tuple[float, str]] = (
        1.0,
        "the same steps with rounded state, https://arxiv.org/abs/2110.02861",
    )
    alone: ClassVar[bool] = False
    scratch: ClassVar[tuple[float, float]] = (20.0, 24.0)
    costs: ClassVar[str] = "About 2 bytes of state a trained weight."

    def state_bytes(self, shape: tuple[int, ...], width: int, hidden: bool = True) -> int:
        """Two bytes a number, two fp32 scales a block of 256. Two tables of 256 code values, which parameters share,
        are not counted."""
        numbers = math.prod(shape)
        return 8 * numbers if numbers < 4096 else 2 * numbers + 2 * 4 * math.ceil(numbers / 256)


@option("optim", "paged_adamw_8bit")
@dataclass(slots=True)
class PagedAdamW8bit(AdamW8bit):
    """`adamw_8bit` whose state may move to the CPU's memory when the GPU's is short. On a CPU it is `adamw_8bit`,
    and the run says so."""

    builds: ClassVar[str] = "fulgurite.optim.adamw_8bit:build_paged"
    costs: ClassVar[str] = "About 2 bytes of state a trained weight; slow while it pages."


@option("optim", "sgd")
@dataclass(slots=True)
class Sgd(Optim):
    """Stochastic gradient descent with momentum. For teaching and comparisons: language models want Adam."""

    builds: ClassVar[str] = "fulgurite.optim.sgd:build"
    lr_factor: ClassVar[tuple[float, str]] = (
        100.0, "its steps are not scaled by a running variance: 10 to 1000 times, unverified, ours",
    )
    alone: ClassVar[bool] = True
    costs: ClassVar[str] = "4 bytes of state a trained weight, none without momentum; many more steps."

    momentum: float = knob(
        0.9, "The share of the last step that is kept in the next.", source="Common practice; torch's default is 0",
        bounds=below(0, 1), usual=between(0.8, 0.99), advice="0 for the plainest descent.",
        raise_when="For smoother steps on noisy batches.", lower_when="When the loss swings.",
        interacts={"optim.lr": "the step grows by 1 / (1 - momentum)"},
        memory="0 saves the only state there is.",
    )

    def state_bytes(self, shape: tuple[int, ...], width: int, hidden: bool = True) -> int:
        """The momentum."""
        return width * math.prod(shape) if self.momentum else 0


@option("optim", "adafactor")
@dataclass(slots=True)
class Adafactor(Optim):
    """AdamW's idea with next to no state: a row and a column in place of a matrix. For full fine-tuning in little
    memory."""

    builds: ClassVar[str] = "fulgurite.optim.adafactor:build"
    lr_factor: ClassVar[tuple[float, str]] = (
        20.0, "its rate is relative to the size of the weights, some 0.05 in a language model, ours",
    )
    alone: ClassVar[bool] = True
    scratch: ClassVar[tuple[float, float]] = (4.0, 2.0)
    costs: ClassVar[str] = "Next to no state; often a little behind AdamW."

    beta2_decay: float = knob(
        -0.8, "How the memory of the variance grows: at step t the newest gradient counts t to this power.",
        source="Adafactor, Shazeer and Stern, https://arxiv.org/abs/1804.04235; torch's default",
        bounds=between(-1, 0), usual=between(-0.9, -0.5), advice="Leave it.",
        leave="The paper's value suits every length of run.",
    )
    clip_threshold: float = knob(
        1.0,
        "An update whose root mean square is above this is scaled down to it.",
        source="Adafactor, Shazeer and Stern, https://arxiv.org/abs/1804.04235; torch's default",
        bounds=at_least(1),
        usual=between(1, 2),
        advice="Leave it, and trainer.max_grad_norm=0 besides: one clipping is enough.",
        leave="The paper's value; raising it gives up what keeps Adafactor stable without momentum.",
        interacts={"trainer.max_grad_norm": "one clipping is enough: set that to 0"},
    )

    def state_bytes(self, shape: tuple[int, ...], width: int, hidden: bool = True) -> int:
        """A number a row and one a column of a matrix; a vector keeps its variance whole."""
        if len(shape) < 2:
            return width * math.prod(shape) + COUNT
        *outer, rows, columns = shape
        return width * math.prod(outer) * (rows + columns) + COUNT


@option("optim", "lion")
@dataclass(slots=True)
class Lion(Optim):
    """Steps of one size along the sign of a running mean: half of Adam's state. For large batches; a third of
    AdamW's rate or less."""

    builds: ClassVar[str] = "fulgurite.optim.lion:build"
    lr_factor: ClassVar[tuple[float, str]] = (
        0.3, "lion-pytorch's README says a third to a tenth, and a third was best in its own tests (verified)",
    )
    alone: ClassVar[bool] = True
    scratch: ClassVar[tuple[float, float]] = (4.0, 2.0)
    costs: ClassVar[str] = "4 bytes of state a trained weight; touchy about its rate."

    betas: list[float] = knob(
        [0.9, 0.99],
        "How much the running mean counts in the step, and how long it remembers.",
        source="Lion, Chen et al., https://arxiv.org/abs/2302.06675; lion-pytorch's README (verified)",
        bounds=below(0, 1),
        usual=between(0.9, 0.99),
        advice="[0.95, 0.98] when it is unstable. Weight decay wants 3 to 10 times AdamW's.",
        raise_when="For small, noisy batches.",
        lower_when="When it is unstable: [0.95, 0.98].",
        interacts={"optim.weight_decay": "wants 3 to 10 times AdamW's"},
    )

    def state_bytes(self, shape: tuple[int, ...], width: int, hidden: bool = True) -> int:
        """One running mean."""
        return width * math.prod(shape)
