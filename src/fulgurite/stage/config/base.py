"""What every stage declares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from fulgurite.config.schema import Derived, Empty, Option, at_least, between, knob
from fulgurite.data.reads import CONVERSATIONS, Reads
from fulgurite.optim.default_lrs import LrRow


@dataclass(slots=True)
class Stage(Option):
    """What every stage declares: what it reads, what it learns from, and what it needs beside the model. No knob."""

    reads: ClassVar[Reads] = CONVERSATIONS
    """What it reads of the data."""
    speaks: ClassVar[bool] = False
    """Whether its model writes text: the run draws samples, and `fulgurite chat` talks with it."""
    next_token: ClassVar[bool] = False
    """Whether its loss is about the next token of given text, in nats a label token."""
    compares: ClassVar[bool] = False
    """Whether a step is counted in pairs of answers, or in judged answers."""
    sides: ClassVar[int] = 1
    """Sequences that a row has: 2 for a pair of answers."""
    refers: ClassVar[bool] = False
    """Whether the policy is held against a reference model, from which it may not stray."""
    judged: ClassVar[bool] = False
    """Whether single answers are good or bad, and each is compared with the others of its step."""
    rolls_out: ClassVar[bool] = False
    """Whether it learns from answers that it draws itself. Its loss is then no measure of progress."""
    gives_rewards: ClassVar[bool] = False
    """Whether its model has a reward head in the place of the language head: it gives a number to an answer."""
    value_head: ClassVar[bool] = False
    """Whether a linear head on the policy's last states estimates the reward to come."""
    loss_by_row: ClassVar[bool] = False
    """Whether each row has a loss that depends on no other row (`compute_row_losses` of its
    module), as privacy needs it."""
    losses: ClassVar[str] = ""
    """The family of `stage.loss` (config/losses.py), or empty if the stage has one loss."""
    lr_like: ClassVar[str] = "sft"
    """The stage whose learning rates it takes from the table in optim/default_lrs.py."""
    lr_rows: ClassVar[Mapping[str, LrRow]] = {}
    """Learning rates of its own, in place of the table's: a row for "full" and one for "lora"."""
    usual_epochs: ClassVar[Derived] = Derived(1.0, "one pass: the stage declares no other number")
    fewest: ClassVar[int] = 8
    """Examples of a step below which a small data set does not push `trainer.batch_size` (ours)."""

    def recommend_batch_size(self) -> Derived | None:
        """The usual `trainer.batch_size` with its reason; None if the method decides."""
        return None

    def has_reference(self, adapter: bool) -> bool:
        """Whether a frozen copy of the model is kept beside it. `adapter`: the method's adapter can be switched off
        instead."""
        return False

    def count_steps_per_rollout(self) -> int:
        """Optimizer steps for each `trainer.global_batch_size` examples."""
        return 1

    def count_examples_per_step(self, batch_size: int) -> int:
        """Sequences that an optimizer step goes over."""
        return batch_size


@dataclass(slots=True)
class GenerativeStage(Stage):
    """What every stage has whose model speaks."""

    speaks: ClassVar[bool] = True

    max_new_tokens: int = knob(
        64,
        "How many tokens each sample answer may have, before, during and after training.",
        source="LLaMA-Factory evaluates with 512; 64 keeps samples short on a CPU (ours)",
        bounds=at_least(1),
        usual=between(32, 1024),
        advice="Raise it when answers are long; an answer that hits it is marked as cut.",
        raise_when="When answers are long and marked as cut.",
        lower_when="When samples take too long.",
        time="Samples take time in proportion.",
    )
    prompts: list[str] | None = knob(
        None, "The prompts answered before, during and after training; [] turns samples off.",
        source="Ours: before and after must differ by the weights alone, so decoding is greedy",
        advice="Give prompts of the kind you care about, and one general one to see what is forgotten.",
        empty=Empty("the data set's own fixed questions, or else the first five prompts of the validation part"),
    )
    loss_chunk: int = knob(
        256,
        "How many label positions' logits exist at one time; the loss is the same for every value.",
        source="measured: a chunk of 256 holds logits to 75 MB at a vocabulary of 49k, one of 512 to 150 MB",
        bounds=at_least(1),
        usual=(256, 512, 1024, 2048),
        advice="Lower it only when memory is short at a vocabulary above 100k.",
        leave="The loss is the same for every value; larger chunks gain no time.",
        interacts={"trainer.micro_batch_size": "positions come from all of its rows"},
        memory="Logits of so many positions exist at one time: chunk times vocabulary times 6 bytes.",
    )
