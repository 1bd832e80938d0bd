"""What every stage declares."""

from __future__ import annotations

from dataclasses import dataclass

from fulgurite.config.schema import Empty, Option, at_least, between, knob


@dataclass(slots=True)
class Stage(Option):
    """What every stage has: no knob."""

    def steps_a_rollout(self) -> int:
        """Optimizer steps for each `trainer.global_batch_size` examples."""
        return 1

    def examples_a_step(self, batch_size: int) -> int:
        """Sequences that an optimizer step goes over."""
        return batch_size


@dataclass(slots=True)
class GenerativeStage(Stage):
    """What every stage has whose model speaks."""

    max_new_tokens: int = knob(
        64, "How many tokens each sample answer may have, before, during and after training.",
        source="LLaMA-Factory evaluates with 512; 64 keeps samples short on a CPU (ours)",
        bounds=at_least(1), usual=between(32, 1024), advice="Raise it when answers are long; an answer that hits it is marked as cut.",
        raise_when="When answers are long and marked as cut.", lower_when="When samples take too long.",
        time="Samples take time in proportion.",
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
        leave="The loss is the same for every value; larger chunks gain no time.",
        interacts={"trainer.micro_batch_size": "positions come from all of its rows"},
        memory="Logits of so many positions exist at one time: chunk times vocabulary times 6 bytes.",
    )
