"""Freezes parameters for a step, so that no gradient is computed for them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from torch import nn


@contextlib.contextmanager
def freeze_temporarily(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Sets `requires_grad` of the trained parameters to false inside the block, and to true again after it.

    Keep the block open from the forward to the end of the backward: gradient checkpointing runs the forward again in
    between.
    """
    turned = [parameter for parameter in parameters if parameter.requires_grad]
    try:
        for parameter in turned:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in turned:
            parameter.requires_grad_(True)
