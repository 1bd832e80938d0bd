"""The row that describes the device."""

from __future__ import annotations

import importlib.metadata
import sys
from typing import Any

import torch

from benchmarks.flops import settle_peak
from benchmarks.gpu.scale import Bench

LIBRARIES = ("torch", "lightning", "transformers", "peft", "bitsandbytes", "trl")


def describe_device(bench: Bench) -> dict[str, Any]:
    """Returns name, memory and speed of the device."""
    found = settle_peak(bench.device, bench.scale.product)
    numbers = {
        "device": found["device"], "measured rate": found["measured"], "peak rate": found["peak"],
        "source of the peak": found["source"],
    }
    if bench.device == "cuda":
        numbers["memory"] = torch.cuda.get_device_properties(0).total_memory
    return numbers


def list_versions() -> dict[str, str]:
    """Returns the versions of python and of the libraries; "missing" if one is not installed."""
    versions = {"python": sys.version.partition(" ")[0], "cuda": str(torch.version.cuda)}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "missing"
    return versions
