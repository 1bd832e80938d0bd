"""Lightning's own callbacks, as options."""

from __future__ import annotations

from lightning.pytorch.callbacks import DeviceStatsMonitor, LearningRateMonitor

from fulgurite.callback.config import DeviceStatsOption, LrMonitorOption
from fulgurite.callback.context import CallbackContext


def build_lr_monitor(config: LrMonitorOption, context: CallbackContext) -> LearningRateMonitor:
    """The learning rate of each parameter group, at each optimizer step."""
    return LearningRateMonitor("step", log_momentum=config.log_momentum, log_weight_decay=config.log_weight_decay)


def build_device_stats(config: DeviceStatsOption, context: CallbackContext) -> DeviceStatsMonitor:
    """Memory and use of the device."""
    return DeviceStatsMonitor(cpu_stats=config.cpu_stats or None)
