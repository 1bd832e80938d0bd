"""Out-of-memory handling: retries once with half the micro-batch, then fails with a one-line diagnosis.

The run goes on from its newest checkpoint, or from its beginning, as after a kill:
steps are units of the mathematics, and their gradient is that of all label tokens whatever the micro-batches.
Lightning's BatchSizeFinder was looked at: it tries sizes on fresh steps before training and gives up on data of uneven
length; accelerate's find_executable_batch_size begins the run anew.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fulgurite.config.decision import Decision
from fulgurite.config.resolve import MICRO_BATCH
from fulgurite.config.schema import has_declared
from fulgurite.errors import TrainingFailed, is_shortage
from fulgurite.language.message import UserMessage, message
from fulgurite.method.config import Method
from fulgurite.optim.config import Optim
from fulgurite.stage.config import Stage
from fulgurite.trainer.config import Trainer

if TYPE_CHECKING:
    from fulgurite.plan.context import PlanFacts

KNOB = MICRO_BATCH


@dataclass(frozen=True, slots=True)
class Shortage:
    """Where memory ran out: the step (from 1; 0 is the trial step), the rows of its micro-batch,
    the longest of them in tokens, and that row's place."""

    step: int
    rows: int
    length: int
    place: str

    @property
    def where(self) -> UserMessage:
        """In words."""
        if self.step:
            return message("at step {step}", step=self.step)
        return message("in the trial step on the longest examples")

    @staticmethod
    def of(stage: Any, step: int, batch: dict[str, Any] | None = None) -> Shortage:
        """Returns where the stage was, with `batch` if it is known; no tensor is kept."""
        batch = batch or (stage._window[-1] if stage._window else {})
        ids, numbers = batch.get("input_ids"), list(batch.get("rows", []))
        places = stage.places(numbers[-1:]) if numbers else []  # a step's rows are sorted by length
        return Shortage(step, len(numbers), int(ids.shape[-1]) if ids is not None else 0, places[0] if places else "")


def explain_whole(stage: Stage, micro_batch: int, private: bool, processes: int, again: bool) -> UserMessage | None:
    """Returns why the micro-batch is not halved; None if it is."""
    if again:
        return message("it was halved already")
    if micro_batch < 2:
        return message("it cannot be halved")
    if stage.rolls_out:
        return message("stage={name} does not restart inside a rollout", name=stage.name)
    if private:
        return message("a private run draws no step twice")
    if processes > 1:
        return message("the other processes cannot follow")
    return None


def describe_halving(decision: Decision) -> UserMessage:
    """Returns the sentence about the decision of `config.resolve.halve`."""
    facts = decision.because.facts
    return message(
        "Out of memory at step {step}: trainer.micro_batch_size is {now} instead of {before} from here on, and the run "
        "continues from its last checkpoint with the same mathematics.",
        step=facts["step"], now=decision.value, before=facts["before"],
    )


def build_failure(
    trainer: Trainer, max_length: int, method: Method, optim: Optim, shortage: Shortage, why: UserMessage | str
) -> TrainingFailed:
    """The end: where, with what, and three remedies that are not taken yet."""
    micro_batch = trainer.micro_batch_size or 1
    remedies = {
        f"{KNOB}={max(1, micro_batch // 2)}": micro_batch > 1,
        "trainer.gradient_checkpointing=true": not trainer.gradient_checkpointing,
        f"data.max_length={max(8, max_length // 2)}": True,
        "method=lora": method.kin == "full",
        f"method={method.quantised_as}": bool(method.quantised_as),
        f"optim={optim.smaller_state}": has_declared(optim, "smaller_state"),
    }
    # In the order of what they cost: the first two change no result.
    three = [words for words, helps in remedies.items() if helps][:3]
    row = message(", longest example {length} tokens ({place})", length=shortage.length, place=shortage.place)
    return TrainingFailed(
        "Out of memory {where}: trainer.micro_batch_size={size}{row}; {why}. Try {remedies}. The last checkpoint, if "
        "there is one, is complete.",
        where=shortage.where, size=micro_batch, row=row if shortage.length else "", why=why, remedies=", ".join(three),
    )


@contextlib.contextmanager
def catch_shortage(seen: PlanFacts) -> Iterator[None]:
    """Raises TrainingFailed, in one line, if memory does not suffice for what comes before the first step.

    The error itself is let go, and with it what its frames hold: a sweep goes on with its next run.
    """
    try:
        yield
    except Exception as error:
        if not is_shortage(error):
            raise
    else:
        return
    # After the `except` block: inside it, the error and the weights in its frames would be kept as the context.
    raise build_loading_failure(seen)


def build_loading_failure(seen: PlanFacts) -> TrainingFailed:
    """The end before the beginning: what the plan counts, what was free, and what would help."""
    run, model = seen.run, seen.model
    smaller = run.method.loads_trained and model.frozen_dtype != model.trained_dtype
    remedies = {
        # the weights are loaded whole before they become four bits: it helps if they are loaded in a
        # smaller dtype, or elsewhere
        "method=qlora": not run.method.quantised and (smaller or seen.machine.device != "cpu"),
        "precision=bf16": not run.method.loads_trained and model.frozen_dtype == "float32" and seen.machine.bf16,
    }
    counted: UserMessage | str = ""
    if seen.memory is not None and seen.memory.loading is not None:
        counted = message(
            "the plan counts {loading} for that and {training} for training; ",
            loading=_format_size(seen.memory.loading.total), training=_format_size(seen.memory.training.total),
        )
    # The last one that helps: a smaller dtype keeps the method.
    first = next((words for words, helps in reversed(remedies.items()) if helps), None)
    smaller_model = message("a smaller model or closing other programs")
    remedy = message("{first}, {others}", first=first, others=smaller_model) if first else smaller_model
    return TrainingFailed(
        "Out of memory while the weights were loaded and made ready: {counted}{free} were free on this {device} "
        "before. Try {remedy}.",
        counted=counted, free=_format_size(seen.machine.memory_free), device=seen.machine.device, remedy=remedy,
    )


def _format_size(number: float) -> str:
    return f"{number / 1e9:.3g} GB"
