"""Finds the device that a trainer uses. Imports torch, but not Lightning."""

from __future__ import annotations

import torch

from fulgurite.errors import ConfigError
from fulgurite.trainer import config as c


def device(config: c.Trainer) -> str:
    """Returns "cuda" or "cpu", the kind of device that this trainer uses on this machine."""
    return "cuda" if config.accelerator != "cpu" and torch.cuda.is_available() else "cpu"


def refuse_absent(config: c.Trainer) -> None:
    """Raises ConfigError if this machine lacks the requested devices."""
    count = torch.cuda.device_count() if config.accelerator != "cpu" and torch.cuda.is_available() else 0
    if config.accelerator == "cuda" and not count:
        raise ConfigError("trainer.accelerator=cuda needs a GPU, and torch finds none; use trainer.accelerator=auto.")
    if count and (config.devices or 1) > count:
        raise ConfigError(
            "trainer.devices={devices} is more than the GPUs of this machine ({count}); use trainer.devices={count}.",
            devices=config.devices, count=count,
        )
