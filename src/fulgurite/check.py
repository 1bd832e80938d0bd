"""What can be refused before torch is loaded: schedules, and every record of the data. Light, so that a refusal is quick."""

from __future__ import annotations

from fulgurite.compose import Composed
from fulgurite.data.source import Source
from fulgurite.errors import ConfigError
from fulgurite.run import GROUPS
from fulgurite.say import say
from fulgurite.scheduler.coincide import curve
from fulgurite.scheduler.config import ReduceLrOnPlateau
from fulgurite.scheduler.plateau import check as check_plateau
from fulgurite.schema import build


def checked_source(composed: Composed) -> Source:
    """The data, every record of them read once. Raises ConfigError and DataError."""
    run = composed.run
    for warning in composed.warnings:
        say(f"warning: {warning}")
    for chosen in (getattr(run, group) for group in GROUPS if group != "logger"):
        if why := chosen.refusal(run):
            raise ConfigError(why)
    source: Source = build(run.data, stage=run.stage.name, seed=run.seed)
    if isinstance(run.scheduler, ReduceLrOnPlateau):
        check_plateau(run.scheduler, run.data.val_fraction > 0 or bool(getattr(run.data, "val_path", None)))
    else:
        curve(run.scheduler, run.trainer.max_steps or 1000, run.optim.lr)  # built once, so that what it refuses is said now
    source.check()
    return source
