"""Bytes per weight: frozen and trained weights, gradients and optimizer state. No torch.

`explain precision` and the README's tables are computed from these; tests compare them with live tensors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from fulgurite.config.schema import list_options
from fulgurite.method.config import Method
from fulgurite.method.four_bits import count_four_bit_bytes
from fulgurite.optim.config import Optim
from fulgurite.precision.config import WIDTH, Precision, Rounding

SQUARE = (1024, 1024)
"""The shape of the weight matrix that the tables are computed for."""


def count_weight_bytes(precision: Precision) -> int:
    """Bytes of a trained weight."""
    return WIDTH[precision.trained]


def count_gradient_bytes(precision: Precision) -> int:
    """Bytes of a trained weight's gradient."""
    return WIDTH[precision.gradients]


def count_state_bytes(optim: Optim, precision: Precision, shape: tuple[int, ...], hidden: bool = True) -> int:
    """Bytes of optimizer state for a trained parameter of this shape, Kahan's compensation included."""
    kept = precision.step_rounding() is Rounding.kahan
    return optim.state_bytes(shape, WIDTH[precision.state], hidden) + (2 * math.prod(shape) if kept else 0)


def count_frozen_bytes(method: Method, precision: Precision, shape: tuple[int, ...]) -> int:
    """Bytes of a frozen weight matrix of this shape."""
    numbers = math.prod(shape)
    return (
        count_four_bit_bytes(numbers, bool(getattr(method, "double_quant", False)))
        if method.quantised
        else numbers * WIDTH[precision.frozen]
    )


def list_compute_types() -> list[str]:
    """The compute types that fix dtypes, in their order."""
    return [name for name, cls in list_options("precision").items() if getattr(cls, "trained", "")]


def build_trained_table() -> Iterator[list[str]]:
    """A row an optimizer: bytes a trained weight as `weights + gradients + state = all`, a column a compute type."""
    numbers = math.prod(SQUARE)
    for name, cls in list_options("optim").items():
        optim = cls()
        assert isinstance(optim, Optim)
        row = [name]
        for kind in list_compute_types():
            precision = list_options("precision")[kind]()
            assert isinstance(precision, Precision)
            parts = (
                count_weight_bytes(precision),
                count_gradient_bytes(precision),
                count_state_bytes(optim, precision, SQUARE) / numbers,
            )
            row.append(f"{parts[0]} + {parts[1]} + {parts[2]:.2g} = {sum(parts):.3g}")
        yield row


def build_frozen_table() -> Iterator[list[str]]:
    """A row a method that freezes weights: bytes a frozen weight of a linear layer, a column a compute type."""
    for name, cls in list_options("method").items():
        method = cls()
        assert isinstance(method, Method)
        if method.whole:
            continue
        cells = []
        for kind in list_compute_types():
            precision = list_options("precision")[kind]()
            assert isinstance(precision, Precision)
            cells.append(f"{count_frozen_bytes(method, precision, SQUARE) / math.prod(SQUARE):.3g}")
        yield [name, *cells]
