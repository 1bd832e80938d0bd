"""Which parameters make a block, and whose turn it is: pure functions of names and steps. No torch."""

from __future__ import annotations

import random
from collections.abc import Mapping
from enum import StrEnum


class Order(StrEnum):
    """Which block is next."""

    ascending = "ascending"
    descending = "descending"
    random = "random"


def build_blocks(dimensions: Mapping[str, int]) -> list[list[str]]:
    """The names in blocks, bottom up: what comes before the layers, each layer, what comes after them.

    `dimensions` gives each name's number of dimensions, in the model's order. A layer is the first number in a name.
    What comes after and holds no matrix, such as a last norm, belongs to the last layer.
    """
    blocks: dict[str, list[str]] = {}
    for name in dimensions:
        parts = name.split(".")
        number = next((n for n, part in enumerate(parts) if part.isdigit()), None)
        layer = ".".join(parts[: number + 1]) if number is not None else ""
        blocks.setdefault(
            layer or ("after" if any(key not in ("before", "after") for key in blocks) else "before"), []
        ).append(name)
    after = blocks.get("after", [])
    if after and max(dimensions[name] for name in after) < 2:
        del blocks["after"]
        blocks[list(blocks)[-1]] += after
    if "after" in blocks:
        blocks["after"] = blocks.pop("after")
    return list(blocks.values())


def get_active_block(step: int, every: int, blocks: int, order: Order) -> int:
    """The number of the block that is trained in step `step`, counted from 0: a resumed run agrees, because it hangs
    on nothing else."""
    visit = step // every
    cycle, place = divmod(visit, blocks)
    if order is Order.random:
        return random.Random(cycle).sample(range(blocks), blocks)[place]
    return place if order is Order.ascending else blocks - 1 - place
