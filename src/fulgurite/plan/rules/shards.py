"""Rules about tensors that the processes of a run do not divide evenly."""

from __future__ import annotations

from fulgurite.language.message import message
from fulgurite.plan.context import PlanFacts
from fulgurite.plan.rules import rule
from fulgurite.plan.shards import find_division, find_sharding, measure_filling
from fulgurite.plan.thresholds import UNEVEN
from fulgurite.precision.config import WIDTH
from fulgurite.rules.registry import Finding


@rule("memory.uneven-shards", "warning", about="trainer.devices", source="measured: torch's fully_shard pads each part")
def check_uneven(seen: PlanFacts) -> Finding | None:
    """Parts of tensors that are not equal, so that the processes allocate more than there is to divide."""
    sharding = find_sharding(seen.run.strategy, seen.run.world_size)
    if sharding is None:
        return None
    share = measure_filling(seen.model, sharding.ranks, WIDTH[seen.model.trained_dtype])
    if share <= UNEVEN:
        return None
    return Finding(
        message(
            "The parts of {ranks} processes are not equal, and each allocates the largest: weights and gradients take "
            "{share:.0%} more than with parts of one size.",
            ranks=sharding.ranks, share=share,
        ),
        _find_even(seen, sharding.ranks),
    )


def _find_even(seen: PlanFacts, ranks: int) -> str:
    """Returns the word for the largest smaller number of processes whose parts are about equal; empty if there is
    none."""
    run, width = seen.run, WIDTH[seen.model.trained_dtype]
    even = [n for n in range(ranks - 1, 1, -1) if measure_filling(seen.model, n, width) <= UNEVEN]
    if run.strategy.hybrid:
        sizes = [n for n in even if run.world_size % n == 0]
        return f"strategy.hybrid={sizes[0]}" if sizes else ""
    nodes = run.trainer.num_nodes or 1
    sizes = [n for n in even if n % nodes == 0]
    return f"trainer.devices={sizes[0] // nodes}" if sizes else ""


@rule("memory.empty-shards", "note", about="trainer.devices", source="measured: torch's fully_shard divides rows")
def check_empty(seen: PlanFacts) -> Finding | None:
    """Tensors with fewer rows than processes."""
    sharding = find_sharding(seen.run.strategy, seen.run.world_size)
    if sharding is None:
        return None
    rows = {tensor.name: find_division(tensor).rows for tensor in seen.model.tensors}
    short = [name for name in rows if 0 < rows[name] < sharding.ranks]
    if not short:
        return None
    first = min(short, key=lambda name: rows[name])
    return Finding(message(
        "{count} tensors have fewer rows than the {ranks} processes that divide them, such as {name} with {rows}: some "
        "processes hold nothing of them, and allocate a row.",
        count=len(short), ranks=sharding.ranks, name=first, rows=rows[first],
    ))
