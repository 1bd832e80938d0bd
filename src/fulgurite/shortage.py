"""Out of memory: known when it is seen, answered once by half the micro-batch, then told in one line.

The run goes on from its newest checkpoint, or from its beginning, as after a kill: steps are units of the mathematics, and their
gradient is that of all label tokens whatever the micro-batches. Lightning's BatchSizeFinder was looked at: it tries sizes on
fresh steps before training and gives up on data of uneven length; accelerate's find_executable_batch_size begins the run anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fulgurite.compose import Composed, Origin
from fulgurite.data.config import ASKING
from fulgurite.errors import TrainingFailed
from fulgurite.folder import read_config, read_provenance
from fulgurite.run import RunConfig

KNOB = "trainer.micro_batch"
SAID = ("out of memory", "can't allocate memory", "not enough memory", "Cannot allocate memory")
"""What allocators say in a RuntimeError: CUDA's, torch's on a CPU, oneDNN's."""
HALVED = "halved"
"""How the reason of a halved micro-batch begins; a resumed run knows by it that the folder's value is meant."""


def is_shortage(error: BaseException) -> bool:
    """Whether an error says that memory ran out."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in SAID)


@dataclass(frozen=True, slots=True)
class Shortage:
    """Where memory ran out: the step (from 1), the rows of its micro-batch, the longest of them in tokens, and that row's place."""

    step: int
    rows: int
    length: int
    place: str

    @staticmethod
    def of(stage: Any, step: int) -> Shortage:
        """What the stage was at; it keeps no tensor."""
        batch = stage._window[-1] if stage._window else {}
        ids, numbers = batch.get("input_ids"), list(batch.get("rows", []))
        places = stage.places(numbers[-1:]) if numbers else []  # a step's rows are sorted by length
        return Shortage(step, len(numbers), int(ids.shape[-1]) if ids is not None else 0, places[0] if places else "")


def kept_whole(run: RunConfig, again: bool) -> str:
    """Why the micro-batch is not halved, in words; empty where it is."""
    if again:
        return "it was halved already"
    if run.trainer.micro_batch < 2:
        return "it cannot be halved"
    if run.stage.name in ASKING:
        return f"stage={run.stage.name} is not begun anew inside a rollout"
    if run.private:
        return "a private run draws no step twice"
    if getattr(run.trainer, "processes", 1) > 1:
        return "the other processes cannot follow"
    return ""


def halve(composed: Composed, shortage: Shortage) -> str:
    """Halve the micro-batch in the run and in its provenance; returns the sentence that says so."""
    trainer = composed.run.trainer
    before, trainer.micro_batch = trainer.micro_batch, trainer.micro_batch // 2
    reason = f"{HALVED} from {before}, which was out of memory at step {shortage.step}; the mathematics is the same"
    composed.provenance[KNOB] = Origin(trainer.micro_batch, "derived", reason)
    return (
        f"Out of memory at step {shortage.step}: {KNOB} is {trainer.micro_batch} instead of {before} from here on, and the run goes on "
        "from its last checkpoint with the same mathematics."
    )


def adopt(composed: Composed, folder: Path) -> None:
    """Take the micro-batch of the folder's run where it was halved on the way, or was derived then as now.

    The memory that is free at a start is no part of what makes a run, and the same micro-batches give the same bits.
    """
    said, now = read_provenance(folder)["knobs"].get(KNOB, {}), composed.provenance.get(KNOB)
    derived = said.get("origin") == "derived" and now is not None and now.origin == "derived"
    halved = str(said.get("reason", "")).startswith(HALVED)
    if (derived or halved) and KNOB not in composed.run.resume.allow:
        value = int(read_config(folder)["trainer"]["micro_batch"])
        composed.run.trainer.micro_batch = value
        composed.provenance[KNOB] = Origin(value, said["origin"], said["reason"])


def failure(run: RunConfig, shortage: Shortage, why: str) -> TrainingFailed:
    """The end: where, with what, and three remedies that are not taken yet."""
    remedies = {
        f"{KNOB}={max(1, run.trainer.micro_batch // 2)}": run.trainer.micro_batch > 1,
        "trainer.gradient_checkpointing=true": not run.trainer.gradient_checkpointing,
        f"data.max_length={max(8, run.data.max_length // 2)}": True,
        "method=lora": run.method.kin == "full",
        "method=qlora": run.method.name == "lora",
        "optim=adamw_8bit": run.optim.name == "adamw",
    }
    three = [words for words, helps in remedies.items() if helps][:3]
    row = f", longest row {shortage.length} tokens ({shortage.place})" if shortage.length else ""
    return TrainingFailed(
        f"Out of memory at step {shortage.step}: {KNOB}={run.trainer.micro_batch}{row}; {why}. Try {', '.join(three)}. "
        "The last checkpoint, where there is one, is whole."
    )
