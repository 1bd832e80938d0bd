"""Lightning's own callbacks and those of other packages, as options."""

from __future__ import annotations

import importlib

from lightning.pytorch import Callback
from lightning.pytorch.callbacks import DeviceStatsMonitor, LearningRateMonitor

from fulgurite.callback.config import DeviceStatsOption, LrMonitorOption, OfferedOption
from fulgurite.callback.context import CallbackContext
from fulgurite.errors import ConfigError
from fulgurite.foreign_code import run_foreign


def build_lr_monitor(config: LrMonitorOption, context: CallbackContext) -> LearningRateMonitor:
    """The learning rate of each parameter group, at each optimizer step."""
    return LearningRateMonitor("step", log_momentum=config.log_momentum, log_weight_decay=config.log_weight_decay)


def build_device_stats(config: DeviceStatsOption, context: CallbackContext) -> DeviceStatsMonitor:
    """Memory and use of the device."""
    return DeviceStatsMonitor(cpu_stats=config.cpu_stats or None)


def build_offered(config: OfferedOption, context: CallbackContext) -> Callback:
    """A callback of another package. Raises ConfigError if it cannot be made, or is no Lightning callback."""
    module, _, name = config.place.partition(":")
    with run_foreign(lambda why: ConfigError(
        "callback={name} ({place}) cannot be made: {why}.",
        name=config.name, place=config.place, why=why,
    )):
        made = getattr(importlib.import_module(module), name)()
    if not isinstance(made, Callback):
        raise ConfigError(
            "callback={name} ({place}) is no Lightning callback: {kind}.",
            name=config.name, place=config.place, kind=type(made).__name__,
        )
    return made
