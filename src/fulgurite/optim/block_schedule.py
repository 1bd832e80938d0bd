"""Divides parameters into blocks, and chooses the block of a step: pure functions of names and steps. No torch."""

from __future__ import annotations

import random
from collections.abc import Mapping

from fulgurite.config.described import DescribedEnum


class Order(DescribedEnum):
    """The order in which blocks are trained."""

    ascending = "ascending", "From the first layer to the last."
    descending = "descending", "From the last layer to the first."
    random = "random", "In a random order, drawn from the seed."


def build_blocks(dimensions: Mapping[str, int]) -> list[list[str]]:
    """Returns the names in blocks, bottom up: the parameters before the layers, each layer, those after the layers.

    `dimensions` gives each name's number of dimensions, in the model's order. A layer is the first number in a name.
    If those after the layers have no matrix, such as a last norm, they belong to the last layer.
    """
    blocks: dict[str, list[str]] = {}
    for name in dimensions:
        parts = name.split(".")
        number = next((n for n, part in enumerate(parts) if part.isdigit()), None)
        # model.layers.3.mlp.up_proj.weight → model.layers.3
        layer = ".".join(parts[: number + 1]) if number is not None else ""
        # A name without a number comes before the layers until the first layer was seen, and after them from then on.
        blocks.setdefault(
            layer or ("after" if any(key not in ("before", "after") for key in blocks) else "before"), []
        ).append(name)
    after = blocks.get("after", [])
    if after and max(dimensions[name] for name in after) < 2:
        # A norm alone would be a visit in which next to nothing trains.
        del blocks["after"]
        blocks[list(blocks)[-1]] += after
    if "after" in blocks:
        # Moved to the end: dictionaries keep the place of the first insertion.
        blocks["after"] = blocks.pop("after")
    return list(blocks.values())


def get_active_block(step: int, every: int, blocks: int, order: Order) -> int:
    """Returns the number of the block that is trained in step `step`, counted from 0. It depends on nothing else, so a
    resumed run agrees."""
    visit = step // every
    cycle, place = divmod(visit, blocks)  # each cycle visits every block once
    if order is Order.random:
        # Seeded by the cycle: no generator has to be stored, and every process draws the same order.
        return random.Random(cycle).sample(range(blocks), blocks)[place]
    return place if order is Order.ascending else blocks - 1 - place
