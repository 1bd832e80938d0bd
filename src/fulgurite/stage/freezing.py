"""Parameters that rest for a step: no gradient is computed for them, and none of the work that leads to it alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from torch import nn


@contextlib.contextmanager
def freeze_temporarily(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Within, those of the parameters that are trained do not ask for a gradient; afterwards they do again.

    Hold it from the forward to the end of the backward: gradient checkpointing runs the forward once more in between.
    """
    turned = [parameter for parameter in parameters if parameter.requires_grad]
    try:
        for parameter in turned:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in turned:
            parameter.requires_grad_(True)
