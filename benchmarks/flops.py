"""The peak of this machine's device; `fulgurite.model.flops` has the formula of a training step and the known peaks."""

from __future__ import annotations

import time
from typing import Any

import torch

from fulgurite.model.flops import find_peak


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
