"""Base of all stages, and of the stages whose model generates text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from fulgurite.config.schema import Derived, Empty, Option, at_least, between, knob
from fulgurite.data.reads import CONVERSATIONS, Reads
from fulgurite.language.message import message
from fulgurite.optim.default_lrs import LrRow


@dataclass(slots=True)
class Stage(Option):
    """What a stage declares: the data that it reads, what it learns from, and what it needs beside the model. It has no
    parameter."""

    reads: ClassVar[Reads] = CONVERSATIONS
    """The parts of the data that it reads."""
    speaks: ClassVar[bool] = False
    """Whether its model generates text: the run draws samples, and `fulgurite chat` can use it."""
    next_token: ClassVar[bool] = False
    """Whether its loss is that of the next token of given text, in nats per label token."""
    compares: ClassVar[bool] = False
    """Whether a step is counted in pairs of answers, or in judged answers."""
    sides: ClassVar[int] = 1
    """Sequences per example: 2 for a pair of answers."""
    refers: ClassVar[bool] = False
    """Whether the policy is compared with a reference model, near which it must stay."""
    judged: ClassVar[bool] = False
    """Whether single answers are marked good or bad, and each is compared with the others of its step."""
    rolls_out: ClassVar[bool] = False
    """Whether it learns from answers that it draws itself. If so, its loss does not measure progress."""
    gives_rewards: ClassVar[bool] = False
    """Whether its model has a reward head instead of the language head: it gives an answer a number."""
    value_head: ClassVar[bool] = False
    """Whether a linear head on the policy's last states estimates the future reward."""
    works_on_shards: ClassVar[bool] = False
    """Whether its results are those of one device if each process holds a part of every weight (`strategy=fsdp`). Not
    inherited: each stage proves it for itself."""
    loss_by_row: ClassVar[bool] = False
    """Whether each example has a loss that depends on no other example (`compute_row_losses` of its module), which
    privacy needs."""
    losses: ClassVar[str] = ""
    """The family of `stage.loss` (config/losses.py), or empty if the stage has one loss."""
    lr_like: ClassVar[str] = "sft"
    """The stage whose learning rates it uses from the table in optim/default_lrs.py."""
    lr_rows: ClassVar[Mapping[str, LrRow]] = {}
    """Its own learning rates, instead of those of the table: a row for "full" and one for "lora"."""
    usual_epochs: ClassVar[Derived] = Derived(1.0, message("one pass: the stage declares no other number"))
    fewest: ClassVar[int] = 8
    """Examples per step below which a small data set does not reduce `trainer.global_batch_size` (ours)."""

    def recommend_batch_size(self) -> Derived | None:
        """Returns the usual `trainer.global_batch_size` with its reason; None if the method decides."""
        return None

    def has_reference(self, adapter: bool) -> bool:
        """Returns whether a frozen copy of the model is kept beside it. `adapter`: the method's adapter can be disabled
        instead."""
        return False

    def count_steps_per_rollout(self) -> int:
        """Returns the optimizer steps per `trainer.global_batch_size` examples."""
        return 1

    def count_examples_per_step(self, batch_size: int) -> int:
        """Returns the sequences of an optimizer step."""
        return batch_size


@dataclass(slots=True)
class GenerativeStage(Stage):
    """Base of the stages whose model generates text."""

    speaks: ClassVar[bool] = True

    max_new_tokens: int = knob(
        64,
        "Maximum tokens of each sample answer, before, during and after training.",
        source="LLaMA-Factory evaluates with 512; 64 keeps samples short on a CPU (ours)",
        bounds=at_least(1),
        usual=between(32, 1024),
        advice="64 on a CPU; 512 to see whole answers.",
        raise_when="If sample answers are marked as cut.",
        lower_when="If samples take too long.",
        time="The time of samples grows in proportion.",
    )
    prompts: list[str] | None = knob(
        None, "Prompts that the model answers before, during and after training; [] turns samples off.",
        source="Ours: before and after must differ only by the weights, so decoding is greedy",
        advice="Give prompts of your task, and a general one that shows what the model forgets.",
        empty=Empty("the data set's own fixed questions, else the first five prompts of the validation set"),
    )
    loss_chunk: int = knob(
        256,
        "Number of label positions whose logits are in memory at a time; does not change the loss.",
        source="measured: at a vocabulary of 49k, logits take 75 MB with a chunk of 256, 150 MB with 512",
        bounds=at_least(1),
        usual=(256, 512, 1024, 2048),
        advice="Leave it; lower it only if memory is short at a vocabulary above 100k.",
        leave="It does not change the loss, and larger chunks are not faster.",
        interacts={"trainer.micro_batch_size": "positions come from all of its examples"},
        memory="Logits take chunk times vocabulary times 6 bytes.",
    )
