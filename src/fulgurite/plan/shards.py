"""The tensors of a model as one process holds them if several divide them (FSDP2): arithmetic on shapes, no torch.

FSDP2 (torch 2.13) divides each tensor along its first dimension. A collective exchanges equal pieces, so every process
allocates the rows of the first one, for a parameter and for its gradient; the optimizer's state has the rows that a
process really holds. Tests compare these numbers with `fully_shard`, in groups of up to 64 processes of which only one
exists.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fulgurite.plan.context import ModelFacts, Weights

if TYPE_CHECKING:
    from fulgurite.strategy.config import Strategy

LAYER = re.compile(r"\.(\d+)\.")
"""The number of a layer in the name of a tensor."""
AHEAD = 2
"""Layers that are gathered at a time: the one that is computed, and the next one."""


@dataclass(frozen=True, slots=True)
class Sharding:
    """How a strategy divides the tensors of a run."""

    ranks: int
    """The processes among which each tensor is divided."""
    reshard: bool = True
    """Whether a layer's gathered weights are freed between its forward and its backward pass."""
    offload: bool = False
    """Whether the parts are in the memory of the CPU."""


@dataclass(frozen=True, slots=True)
class Division:
    """How a tensor is divided: its rows, the bytes of a row, and the bytes beside them that every process holds."""

    rows: int
    row_bytes: int
    whole: int = 0


def find_sharding(strategy: Strategy, processes: int) -> Sharding | None:
    """Returns how a run divides its tensors; None if every process holds all of them."""
    if strategy.replicates:
        return None
    group = getattr(strategy, "hybrid", None) or processes
    return Sharding(group, bool(getattr(strategy, "reshard", True)), bool(getattr(strategy, "offload", False)))


def count_rows(rows: int, ranks: int, rank: int) -> int:
    """Returns how many of the rows of a tensor the process `rank` of `ranks` holds.

    FSDP2 divides as torch.chunk does: each process gets the quotient rounded up, until no row is left.
    """
    # 5 rows among 4 processes: 2, 2, 1 and 0, because each takes the quotient rounded up as long as rows are left.
    each = count_padded_rows(rows, ranks)
    return min(each, max(0, rows - rank * each))


def count_padded_rows(rows: int, ranks: int) -> int:
    """Returns the rows for which every process allocates memory: those of the first process."""
    return -(-rows // ranks)


def find_division(tensor: Weights) -> Division:
    """Returns how a tensor is divided. A matrix in four bits is a column of bytes, and its scales are not divided."""
    numbers = math.prod(tensor.shape)
    if not tensor.shape or not numbers:
        return Division(0, 0, tensor.bytes)
    # Less than a byte for each number, or no whole number of bytes: two numbers of four bits in a byte, and scales.
    if tensor.bytes < numbers or tensor.bytes % numbers:
        packed = -(-numbers // 2)
        return Division(packed, 1, tensor.bytes - packed)
    return Division(tensor.shape[0], tensor.bytes // tensor.shape[0])


def take_share(model: ModelFacts, ranks: int, rank: int) -> ModelFacts:
    """Returns the model with the rows of each tensor that the process `rank` of `ranks` holds."""
    return _divide(model, [count_rows(find_division(t).rows, ranks, rank) for t in model.tensors])


def take_padded_share(model: ModelFacts, ranks: int) -> ModelFacts:
    """Returns the model with the rows of each tensor for which every one of `ranks` processes allocates memory."""
    return _divide(model, [count_padded_rows(find_division(t).rows, ranks) for t in model.tensors])


def _divide(model: ModelFacts, rows: list[int]) -> ModelFacts:
    tensors = []
    for tensor, held in zip(model.tensors, rows, strict=True):
        division = find_division(tensor)
        # the rows of a packed matrix are not those of its shape; it is frozen, so that only its bytes count
        shape = (held, *tensor.shape[1:]) if tensor.shape[:1] == (division.rows,) else tensor.shape
        tensors.append(replace(tensor, shape=shape, bytes=held * division.row_bytes + division.whole))
    trained = sum(math.prod(t.shape) for t in tensors if t.trained)
    return replace(model, tensors=tensors, trained=trained)


def measure_filling(model: ModelFacts, ranks: int, width: int) -> float:
    """Returns the share of the divided weights and gradients for which all processes together allocate more memory.

    `width`: bytes of a gradient's number.
    """
    held = allocated = 0
    for tensor in model.tensors:
        division = find_division(tensor)
        gradient = math.prod(tensor.shape[1:]) * width if tensor.trained else 0
        held += division.rows * (division.row_bytes + gradient)
        allocated += ranks * count_padded_rows(division.rows, ranks) * (division.row_bytes + gradient)
    return allocated / held - 1 if held else 0.0


def count_gathered(model: ModelFacts, sharding: Sharding, width: int) -> int:
    """Returns the most bytes of gathered weights, and of gradients before they are divided, beside a process's part.

    `width`: bytes of a gradient's number. The embedding, the head and the last norm are gathered together and stay
    for the whole step; a layer's weights stay while it is computed, and without `reshard` until its backward pass.
    """
    layers: dict[int, list[Weights]] = {}
    ends: list[Weights] = []
    for tensor in model.tensors:
        found = LAYER.search(tensor.name)
        # A name without the number of a decoder layer: the embedding, the head, the last norm.
        inside = found is not None and int(found[1]) < model.layers
        (layers.setdefault(int(found[1]), []) if found is not None and inside else ends).append(tensor)
    weights = {number: _sum_gathered(held, sharding.ranks) for number, held in layers.items()}
    gradients = max((_sum_gradients(held, sharding.ranks, width) for held in layers.values()), default=0)
    # Without resharding the forward pass leaves all layers gathered; with it, only the one in use and the next.
    kept = AHEAD * max(weights.values(), default=0) if sharding.reshard else sum(weights.values())
    whole = _sum_gathered(ends, sharding.ranks) + _sum_gradients(ends, sharding.ranks, width)
    return whole + kept + AHEAD * gradients


def _sum_gathered(tensors: list[Weights], ranks: int) -> int:
    divisions = [find_division(tensor) for tensor in tensors]
    return sum(ranks * count_padded_rows(each.rows, ranks) * each.row_bytes for each in divisions)


def _sum_gradients(tensors: list[Weights], ranks: int, width: int) -> int:
    trained = [tensor.shape for tensor in tensors if tensor.trained and tensor.shape]
    return sum(ranks * count_padded_rows(shape[0], ranks) * math.prod(shape[1:]) * width for shape in trained)
