"""How gradients become steps."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from fulgurite.optim import rates
from fulgurite.schema import Empty, Option, above, at_least, below, between, knob, option


class Decay(StrEnum):
    """What weight decay takes from."""

    matrices = "matrices"
    all = "all"


@dataclass(slots=True)
class Optim(Option):
    """What every optimizer has."""

    lr: float | None = knob(
        None, "The learning rate: the size of each step at its peak. Wrong by ten, no other knob repairs it.",
        source="A table by stage, method and model size: fulgurite/optim/rates.py names who used what",
        bounds=above(0, 1), usual=rates.usual,
        advice="Raise it 2 to 5 times if the loss lies flat and samples do not change; divide by 2 to 5 on spikes or repetition. "
        "LoRA takes about ten times the rate of full fine-tuning, and qlora LoRA's; ia3 takes 3 and vera 5 times that; "
        "layerwise and llama_pro take full's, freeze, oft and boft 3 times full's.",
        empty=Empty("from the stage, the method and the model's size", rates.recommend),
    )
    weight_decay: float = knob(
        0.0, "The share of each weight that a step takes away, times the learning rate; from which weights, optim.decay says.",
        source="Tülu 3, QLoRA and HF 0, torch and torchtune 0.01 (verified)",
        bounds=between(0, 1), usual=between(0, 0.1), advice="0.01 to 0.1 for long full fine-tuning.",
    )
    decay: Decay = knob(
        Decay.matrices, "What weight decay takes from: matrices, or all weights, which are norms, biases and embeddings too.",
        source="Common practice since GPT-2 (nanoGPT, OLMo-core): norms and biases have a right size, and it is not zero",
        advice="Leave it; all repeats recipes that give the optimizer every weight alike.",
    )


@option("optim", "adamw")
@dataclass(slots=True)
class AdamW(Optim):
    """Adam with decoupled weight decay, torch's fused form. Always the first choice."""

    builds: ClassVar[str] = "fulgurite.optim.adamw:build"
    state_bytes: ClassVar[float] = 8.0

    betas: list[float] = knob(
        [0.9, 0.999], "How long the running mean and variance of the gradient remember.",
        source="AdamW, Loshchilov and Hutter, https://arxiv.org/abs/1711.05101; 0.95 in long runs (InstructGPT)",
        bounds=below(0, 1), usual=between(0.8, 0.999), advice="[0.9, 0.95] for long runs and reinforcement learning.",
    )
    eps: float = knob(
        1e-8, "A small number that keeps the division by the variance finite.", source="torch's and HF's default (verified)",
        bounds=above(0), usual=between(1e-8, 1e-6), advice="Leave it.",
    )


@option("optim", "sgd")
@dataclass(slots=True)
class Sgd(Optim):
    """Stochastic gradient descent with momentum. For teaching and comparisons: language models want Adam."""

    builds: ClassVar[str] = "fulgurite.optim.sgd:build"
    state_bytes: ClassVar[float] = 4.0

    momentum: float = knob(
        0.9, "The share of the last step that is kept in the next.", source="Common practice; torch's default is 0",
        bounds=below(0, 1), usual=between(0.8, 0.99), advice="0 for the plainest descent.",
    )


@option("optim", "adafactor")
@dataclass(slots=True)
class Adafactor(Optim):
    """AdamW's idea with next to no state: a row and a column in place of a matrix. For full fine-tuning in little memory."""

    builds: ClassVar[str] = "fulgurite.optim.adafactor:build"

    beta2_decay: float = knob(
        -0.8, "How the memory of the variance grows: at step t the newest gradient counts t to this power.",
        source="Adafactor, Shazeer and Stern, https://arxiv.org/abs/1804.04235; torch's default",
        bounds=between(-1, 0), usual=between(-0.9, -0.5), advice="Leave it.",
    )
    clip_threshold: float = knob(
        1.0, "An update whose root mean square is above this is scaled down to it.",
        source="Adafactor, Shazeer and Stern, https://arxiv.org/abs/1804.04235; torch's default",
        bounds=at_least(1), usual=between(1, 2), advice="Leave it, and trainer.max_grad_norm=0 besides: one clipping is enough.",
    )
