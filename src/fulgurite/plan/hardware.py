"""What the run would be on: device, free memory, free disk."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

import psutil
import torch

from fulgurite.plan.context import Machine
from fulgurite.precision.policy import cpu_multiplies_bf16
from fulgurite.strategy.config import available
from fulgurite.trainer.config import Trainer
from fulgurite.trainer.device import device

LIMITS = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))
"""A container's limit and use, below /sys/fs/cgroup: of version 2, then of version 1."""


def detect_machine(trainer: Trainer, processes: int, folder: Path | None) -> Machine:
    """The device that the trainer takes, and the disk of the run's folder; nothing is allocated."""
    kind = device(trainer)
    disk = shutil.disk_usage(find_existing(folder or Path("runs"))).free
    if kind == "cuda":
        free, total = torch.cuda.mem_get_info()
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return Machine(kind, torch.cuda.get_device_name(), free, total, disk, bf16, processes, available())
    memory = psutil.virtual_memory()
    # In a container the machine's free memory may be far more than the container may use.
    free, total = min([(memory.available, memory.total), *read_container_limits(Path("/sys/fs/cgroup"), memory.total)])
    return Machine(
        kind, platform.processor() or platform.machine(), free, total, disk, cpu_multiplies_bf16(), processes,
        available(),
    )


def read_container_limits(root: Path, whole: int) -> list[tuple[int, int]]:
    """(free, limit) of the container that this process is in, where it has a limit below the machine's `whole`."""
    found = []
    for limit, used in LIMITS:
        try:
            most, now = int((root / limit).read_text()), int((root / used).read_text())
        except (OSError, ValueError):  # no such version, or "max"
            continue
        if most < whole:
            found.append((max(most - now, 0), most))
    return found


def find_existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.is_dir())
