"""What can be refused before torch is loaded: pairs of options, schedules, every record of the data. Light, so that
it is quick."""

from __future__ import annotations

from fulgurite.config.provenance import Composed
from fulgurite.config.run import RunConfig
from fulgurite.config.schema import build
from fulgurite.data.source import Source
from fulgurite.errors import ConfigError
from fulgurite.plan.verdict import refuse_unknown
from fulgurite.scheduler.config import Scheduler
from fulgurite.scheduler.equivalence import build_curve
from fulgurite.scheduler.plateau import check as check_plateau
from fulgurite.stage.config import Stage


def build_checked_source(composed: Composed) -> Source:
    """The data, every record of them read once. Raises ConfigError and DataError."""
    run = composed.run
    refuse_unknown(run.plan.allow, run.monitor.ignore)
    refuse_impossible(run)
    if run.lr_finder.enabled:
        refuse_find(run.stage, run.private, run.world_size, run.resume.run)
    source: Source = build(run.data, stage=run.stage.name, seed=run.seed)
    validates = run.data.val_fraction > 0 or bool(getattr(run.data, "val_path", None))
    refuse_unmeasured(run.scheduler, run.trainer.early_stopping_patience, validates)
    if not run.scheduler.monitors:
        # built once, so that what it refuses is said now
        build_curve(run.scheduler, run.trainer.max_steps or 1000, run.optim.lr)
    source.check()
    return source


def refuse_unmeasured(scheduler: Scheduler, patience: int | None, has_validation: bool) -> None:
    """Raise ConfigError where something follows a validation loss that nobody measures."""
    check_plateau(scheduler, has_validation)
    if patience is not None and not has_validation:
        raise ConfigError(
            f"trainer.early_stopping_patience={patience} counts evaluations, but "
            f"data.val_fraction=0 and there is no data.val_path: "
            "set data.val_fraction=0.05, or leave trainer.early_stopping_patience out."
        )


def refuse_impossible(run: RunConfig) -> None:
    """Raise ConfigError where an option says that it cannot be part of this run."""
    for option in run.list_options():
        if (sentence := option.find_refusal(run)) is not None:
            raise ConfigError(sentence)


def refuse_find(stage: Stage, private: bool, processes: int, resumed: str | None) -> None:
    """Raise ConfigError where a growing rate tells nothing of the rate, or where it may not be tried."""
    if stage.rolls_out:
        raise ConfigError(
            f"+find=lr tells nothing under stage={stage.name}: its loss is no measure of progress; leave optim.lr "
            f"empty."
        )
    if private:
        raise ConfigError(
            "+find=lr reads the data without an account of privacy; find the rate on public data, with privacy=none."
        )
    if processes > 1:
        raise ConfigError("+find=lr runs in one process; take trainer.devices=1 for it, the rate is the same.")
    if resumed is not None:
        raise ConfigError("+find=lr begins from a run's start; leave resume.run out.")
