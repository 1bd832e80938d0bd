"""What is being learned: running text, or answers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from fulgurite.schema import Empty, Option, at_least, between, knob, option


@dataclass(slots=True)
class Stage(Option):
    """What every stage has."""

    max_new_tokens: int = knob(
        64, "How many tokens each sample answer may have, before, during and after training.",
        source="LLaMA-Factory evaluates with 512; 64 keeps samples short on a CPU (ours)",
        bounds=at_least(1), usual=between(32, 1024), advice="Raise it when answers are long; an answer that hits it is marked as cut.",
    )
    prompts: list[str] | None = knob(
        None, "The prompts answered before, during and after training; [] turns samples off.",
        source="Ours: before and after must differ by the weights alone, so decoding is greedy",
        advice="Give prompts of the kind you care about, and one general one to see what is forgotten.",
        empty=Empty("the data set's own fixed questions, or else the first five prompts of the validation part"),
    )
    loss_chunk: int = knob(
        256, "How many label positions' logits exist at one time; the loss is the same for every value.",
        source="measured: a chunk of 256 holds logits to 75 MB at a vocabulary of 49k, one of 512 to 150 MB",
        bounds=at_least(1), usual=(256, 512, 1024, 2048), advice="Lower it only when memory is short at a vocabulary above 100k.",
    )


class SftLoss(StrEnum):
    """What is made small in supervised fine-tuning."""

    nll = "nll"
    dft = "dft"


@option("stage", "sft")
@dataclass(slots=True)
class Sft(Stage):
    """Supervised fine-tuning: learns the answers of examples. The right first step in doubt."""

    builds: ClassVar[str] = "fulgurite.stage.language:build"

    loss: SftLoss = knob(
        SftLoss.nll, "What is made small: the negative log-likelihood, or DFT, which weights each token by its probability.",
        source="DFT, Wu et al., https://arxiv.org/abs/2508.05629; TRL offers it too",
        advice="nll first. dft where answers have one right form, as in mathematics: it learns less from what surprises it.",
    )


    neftune_alpha: float = knob(
        0.0, "NEFTune: how much uniform noise is added to the embeddings in training; 0 turns it off.",
        source="NEFTune, Jain et al., https://arxiv.org/abs/2310.05914; LLaMA-Factory 5 (verified)",
        bounds=at_least(0), usual=between(0, 15), advice="5 on small chat sets only: chattier answers, no gain in knowledge.",
    )


@option("stage", "pt")
@dataclass(slots=True)
class Pt(Stage):
    """Continued pre-training: learns running text, every token of it. Take it for raw text; rows are packed."""

    builds: ClassVar[str] = "fulgurite.stage.language:build"
