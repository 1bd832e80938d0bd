"""What the machine of the board has: device, memory, disk, cores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fulgurite import __version__
from fulgurite.plan.hardware import detect_machine
from fulgurite.trainer.config import Trainer


def describe_machine(folder: Path | None = None) -> dict[str, Any]:
    """Returns the machine as JSON has it, with the disk of a folder; sizes are in bytes."""
    import torch

    found = detect_machine(Trainer(), 1, folder)
    return {
        "device": found.device, "name": found.name, "memory_free": found.memory_free,
        "memory_total": found.memory_total, "disk_free": found.disk_free, "cores": found.cores,
        "gpus": [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())],
        "bf16": found.bf16, "version": __version__,
    }
