"""The micro-batch that fits: what the device likes best, and fewer rows where the estimate says that they are too
many."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fulgurite.config.decision import Decision, Kind
from fulgurite.config.provenance import Composed
from fulgurite.config.resolve import MICRO_BATCH, decide
from fulgurite.language.message import message
from fulgurite.plan.memory import estimate

if TYPE_CHECKING:
    from fulgurite.plan.context import Ints, Machine, ModelFacts

ROOM = 0.9
"""The share of the free memory that an estimate may take: it is good to 15 %, and others share the machine (ours)."""


def fit_memory(composed: Composed, model: ModelFacts, lengths: Ints | None, machine: Machine) -> Composed:
    """Halves a derived micro-batch until training fits into the free memory, or is at 1.

    What a person gave stays as it is: rules warn of it, and running out of memory halves it. So do the micro-batches
    of several processes, which must be alike and would each see other memory free.
    """
    run, decision = composed.run, composed.provenance.get(MICRO_BATCH)
    if decision is None or not decision.derived or machine.processes > 1 or not machine.memory_free:
        return composed
    asked = rows = run.trainer.micro_batch_size
    while rows > 1 and estimate(run, model, lengths, machine, rows).training.total > ROOM * machine.memory_free:
        rows //= 2
    if rows == asked:
        return composed
    need = estimate(run, model, lengths, machine, asked).training.total
    why = message(
        "{free:.3g} GB are free, and {asked} would need {need:.3g} GB; the mathematics is the same for every value",
        free=machine.memory_free / 1e9, asked=asked, need=need / 1e9,
    )
    return decide(composed, Decision(MICRO_BATCH, rows, Kind.fitted, why))
