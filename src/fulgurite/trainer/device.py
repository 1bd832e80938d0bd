"""The kind of device that a trainer computes on. Imports torch, and not Lightning."""

from __future__ import annotations

import torch

from fulgurite.errors import ConfigError
from fulgurite.trainer import config as c


def device(config: c.Trainer) -> str:
    """"cuda" or "cpu": the kind of device that this trainer computes on, on this machine."""
    return "cuda" if config.accelerator != "cpu" and torch.cuda.is_available() else "cpu"


def refuse_absent(config: c.Trainer) -> None:
    """Raise ConfigError if this machine lacks the devices that were asked for."""
    count = torch.cuda.device_count() if config.accelerator != "cpu" and torch.cuda.is_available() else 0
    if config.accelerator == "cuda" and not count:
        raise ConfigError("trainer.accelerator=cuda needs a GPU, and torch finds none; take trainer.accelerator=auto.")
    if count and (config.devices or 1) > count:
        raise ConfigError(
            f"trainer.devices={config.devices} asks for more GPUs than the {count} of this machine; take {count}."
        )
