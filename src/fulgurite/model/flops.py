"""Floating-point operations of a training step by formula, and the share of a device's peak that they are (MFU).

One product of a [T, a] and an [a, b] matrix is 2 T a b operations. A trained matrix takes part in three products
(forward, gradient of the input, gradient of the weight), a frozen one in two. Attention is counted with the whole
T × T matrix, as in PaLM (https://arxiv.org/abs/2204.02311, appendix B), also if a kernel skips the half above the
diagonal. Norms, rotary embeddings, the softmax and the optimizer are left out, because they are no matrix products.

Not Lightning's ThroughputMonitor: its table gives an H200 the rate of sparse products, twice the dense one, and
`measure_flops` needs a second copy of the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

PEAKS = {
    "GB200": 2500e12, "B200": 2250e12, "GH200": 989e12, "H200": 989e12, "H100 PCIe": 756e12,
    "H100 NVL": 835e12, "H100": 989e12, "H800": 989e12, "H20": 148e12, "A100": 312e12,
    "A800": 312e12, "L40S": 362e12, "L40": 181e12, "L4": 121e12,
    "A40": 150e12, "A10G": 70e12, "A10": 125e12, "A30": 165e12, "A6000": 155e12, "RTX 4090": 165e12, "RTX 3090": 71e12,
}
"""Dense bf16 operations a second by a part of the device's name, from NVIDIA's data sheets; the first part that occurs
counts, so a longer name is before its beginning."""


@dataclass(frozen=True)
class Shape:
    """The widths of a decoder of Llama's kind."""

    hidden: int
    layers: int
    intermediate: int
    heads: int
    kv_heads: int
    vocab: int

    @property
    def keys(self) -> int:
        """The width of the keys."""
        return self.hidden // self.heads * self.kv_heads

    def list_inputs(self) -> list[tuple[int, int]]:
        """The query, key and value matrices of a layer, as (inputs, outputs)."""
        return [(self.hidden, self.hidden), (self.hidden, self.keys), (self.hidden, self.keys)]

    def list_others(self) -> list[tuple[int, int]]:
        """The other matrices of a layer: output, gate, up, down."""
        wide = (self.hidden, self.intermediate)
        return [(self.hidden, self.hidden), wide, wide, (self.intermediate, self.hidden)]


def count_step(shape: Shape, length: int, rank: int | None = None) -> float:
    """Operations per token of a forward and a backward pass over rows of `length` tokens, with a loss at every token.

    With a `rank`, every matrix of a layer is frozen and has an adapter of that rank, and the rest is frozen too.
    """
    matrices = [*shape.list_inputs(), *shape.list_others()]
    base = shape.layers * sum(a * b for a, b in matrices) + shape.hidden * shape.vocab
    # Forward and twice backward, two products (scores and values), two operations for each product and sum.
    attention = shape.layers * 3 * 2 * 2 * length * shape.hidden
    if rank is None:
        return 3 * 2 * base + attention
    adapters = shape.layers * sum(rank * (a + b) for a, b in matrices)
    # The embeddings are frozen, so the input of the first layer needs no gradient.
    first = sum(a * b + rank * a for a, b in shape.list_inputs())
    return 2 * 2 * base + 3 * 2 * adapters - 2 * first + attention


def count_parameters(shape: Shape) -> int:
    """Numbers of a model whose head is its embedding."""
    layer = sum(a * b for a, b in [*shape.list_inputs(), *shape.list_others()]) + 2 * shape.hidden
    return shape.layers * layer + shape.hidden * shape.vocab + shape.hidden


def find_peak(name: str) -> float | None:
    """Returns the dense bf16 operations a second of a device by its name, or None if the table lacks it."""
    return next((peak for part, peak in PEAKS.items() if part in name), None)


def count_model_step(model: nn.Module, length: float) -> float | None:
    """Operations per token of a forward and a backward pass of `model` over rows of `length` tokens, from its own
    linear layers; None for a model with other matrices, such as a mixture of experts, or without the usual config.

    It counts the gradient of the first layer's input also if the embeddings are frozen, a share of at most
    1 / (3 × layers).
    """
    from torch import nn

    config = getattr(model, "config", None)
    layers, hidden = (getattr(config, name, None) for name in ("num_hidden_layers", "hidden_size"))
    if not layers or not hidden:
        return None
    known: set[int] = set()
    # The same as in count_step: three passes of two operations, for the scores and for the values.
    total = 6.0 * 2 * length * layers * hidden
    for part in model.modules():
        if isinstance(part, nn.Linear):
            # the sizes of the layer, because a quantised weight has another shape
            total += (6 if part.weight.requires_grad else 4) * part.in_features * part.out_features
        if isinstance(part, nn.Linear | nn.Embedding):
            known.add(id(part.weight))
    # A matrix that belongs to no linear layer or embedding would be left out of the count in silence.
    strange = any(p.dim() > 1 and id(p) not in known for p in model.parameters())
    return None if strange else total
