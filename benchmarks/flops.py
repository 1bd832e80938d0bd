"""Floating-point operations of a training step by formula, and the share of a device's peak that they are (MFU).

One product of a [T, a] and an [a, b] matrix is 2 T a b operations. A trained matrix takes part in three products
(forward, gradient of the input, gradient of the weight), a frozen one in two. Attention is counted with the whole
T × T matrix, as in PaLM (https://arxiv.org/abs/2204.02311, appendix B), also if a kernel skips the half above the
diagonal. Norms, rotary embeddings, the softmax and the optimizer are left out, because they are no matrix products.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch

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


def measure_rate(device: str, size: int, repeats: int = 10) -> float:
    """Returns the operations a second of square bf16 products on the device."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    synchronize(device)
    began = time.perf_counter()
    for _ in range(repeats):
        a @ b
    synchronize(device)
    return float(repeats * 2 * size**3 / (time.perf_counter() - began))


def settle_peak(device: str, size: int) -> dict[str, Any]:
    """Returns the peak that a share is given of, and where it is from: the table, or a measured product."""
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    measured = measure_rate(device, size)
    known = find_peak(name) if device == "cuda" else None
    return {
        "device": name, "measured": measured, "peak": known or measured,
        "source": "data sheet, dense bf16" if known else f"measured: bf16 product of {size} × {size}",
    }


def synchronize(device: str) -> None:
    """Waits for the device's kernels."""
    if device == "cuda":
        torch.cuda.synchronize()
