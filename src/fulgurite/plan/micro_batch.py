"""The micro-batch that fits: what the device likes best, and fewer rows where the estimate says that they are too many."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fulgurite.config.provenance import Composed, Origin
from fulgurite.plan.memory import estimate

if TYPE_CHECKING:
    from fulgurite.plan.context import Ints, Machine, ModelFacts

KNOB = "trainer.micro_batch_size"
ROOM = 0.9
"""The share of the free memory that an estimate may take: it is good to 15 %, and others share the machine (ours)."""


def reduce(composed: Composed, model: ModelFacts, lengths: Ints | None, machine: Machine) -> bool:
    """Halve a derived micro-batch until training fits into the free memory, or is at 1; whether it was changed.

    What a person gave stays as it is: rules speak of it, and running out of memory halves it. So do the micro-batches of several
    processes, which must be alike and would each see other memory free.
    """
    run, origin = composed.run, composed.provenance.get(KNOB)
    if origin is None or origin.origin != "derived" or machine.processes > 1 or not machine.memory_free:
        return False
    asked = rows = run.trainer.micro_batch_size
    while rows > 1 and peak(composed, model, lengths, machine, rows) > ROOM * machine.memory_free:
        rows //= 2
    if rows == asked:
        return False
    run.trainer.micro_batch_size = rows
    need = peak(composed, model, lengths, machine, asked)
    free = f"{machine.memory_free / 1e9:.3g} GB are free, and {asked} would need {need / 1e9:.3g} GB"
    composed.provenance[KNOB] = Origin(rows, "derived", f"{free}; the mathematics is the same for every value")
    return True


def peak(composed: Composed, model: ModelFacts, lengths: Ints | None, machine: Machine, rows: int) -> int:
    """Bytes at the peak of training with so many rows at a time."""
    run = composed.run
    return estimate(replace(run, trainer=replace(run.trainer, micro_batch_size=rows)), model, lengths,
        machine).training.total
