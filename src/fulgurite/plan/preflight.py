"""Refuses, before torch is loaded, pairs of options, schedules, and records of the data that cannot be used."""

from __future__ import annotations

import sys
from pathlib import Path

from fulgurite.config.paths import is_missing_path, is_there
from fulgurite.config.provenance import Composed
from fulgurite.config.run import RunConfig
from fulgurite.config.schema import build
from fulgurite.data.source import Source
from fulgurite.errors import ConfigError, ModelError
from fulgurite.language.message import as_message
from fulgurite.model.config import Model, refuse_no_model
from fulgurite.plan.recall import Recall, key_source, make_anew
from fulgurite.plan.verdict import refuse_unknown
from fulgurite.precision.config import Precision
from fulgurite.scheduler.config import Scheduler
from fulgurite.scheduler.equivalence import build_curve
from fulgurite.scheduler.plateau import check as check_plateau
from fulgurite.stage.config import Stage
from fulgurite.trainer.config import Trainer


def build_checked_source(composed: Composed, recall: Recall = make_anew, is_here: bool = True) -> Source:
    """Builds the data and reads every record once, unless `recall` has them. Raises ConfigError and DataError.

    `is_here` is false if another machine will train, so that this one needs no GPU.
    """
    run = composed.run
    refuse_unknown(run.plan.allow, run.monitor.ignore)
    refuse_impossible(run)
    refuse_missing(run.model, run.precision, run.trainer, is_here)
    if run.lr_finder.enabled:
        refuse_find(run.stage, run.private, run.world_size, run.resume.run)
    key = () if recall is make_anew else key_source(run.stage.name, run.data)
    source: Source = recall("source", key, lambda: build(run.data, stage=run.stage.name, seed=run.seed))
    validates = run.data.val_fraction > 0 or bool(getattr(run.data, "val_path", None))
    refuse_unmeasured(run.scheduler, run.trainer.early_stopping_patience, validates)
    if not run.scheduler.monitors:
        # built here so that it refuses now what it would refuse later
        build_curve(run.scheduler, run.trainer.max_steps or 1000, run.optim.lr)
    if source.checked is None:
        source.check()
    return source


def refuse_unmeasured(scheduler: Scheduler, patience: int | None, has_validation: bool) -> None:
    """Raises ConfigError if something depends on a validation loss that nobody measures."""
    check_plateau(scheduler, has_validation)
    if patience is not None and not has_validation:
        raise ConfigError(
            "trainer.early_stopping_patience={patience} counts evaluations, but data.val_fraction=0 and there is no "
            "data.val_path: set data.val_fraction=0.05, or leave trainer.early_stopping_patience out.",
            patience=patience,
        )


def refuse_missing(model: Model, precision: Precision, trainer: Trainer, is_here: bool = True) -> None:
    """Raises ConfigError or ModelError for a model or a GPU that this machine lacks, without asking torch."""
    path = str(getattr(model, "path", None) or "")
    if is_missing_path(path):
        raise ConfigError("model.path={path} does not exist; give a model folder, a run folder or a hub id.", path=path)
    folder = Path(path).expanduser()
    # A run and an adapter are starts too: they are loaded with their base.
    is_start = any((folder / name).is_file() for name in ("config.yaml", "adapter_config.json"))
    if path and is_there(path):
        if not is_start:
            refuse_no_model(folder)
    elif path and is_here:
        refuse_unreachable(path, getattr(model, "revision", None))
    if precision.compute == "float16" and (
        trainer.accelerator == "cpu" or (is_here and not may_have_gpu())
    ):
        raise ConfigError(
            "precision=fp16 needs a GPU: on a CPU, Lightning would run bf16 without a word; use precision=bf16 or fp32."
        )


def refuse_unreachable(path: str, revision: str | None) -> None:
    """Raises ConfigError if a path to nothing can be no hub id, or ModelError if it is one that cannot be downloaded.

    The hub itself is not asked: only whether it may be, and whether its cache has the model.
    """
    from huggingface_hub import constants, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(path, "config.json", revision=revision)
    except HFValidationError:
        raise ConfigError(
            "model.path={path} does not exist; give a model folder, a run folder or a hub id.", path=path
        ) from None
    if constants.HF_HUB_OFFLINE and not isinstance(found, str):
        raise ModelError(
            "model.path={path} is no folder, the hub cache does not have it, and HF_HUB_OFFLINE=1 forbids a download; "
            "give a model folder, or unset HF_HUB_OFFLINE.",
            path=path,
        )


def may_have_gpu() -> bool:
    """Returns whether this machine may have a GPU: on Linux whether there is a device of one, elsewhere true."""
    names = ("nvidia*", "nvhost*", "nvmap", "dxg", "kfd")
    return sys.platform != "linux" or any(next(Path("/dev").glob(name), None) is not None for name in names)


def refuse_impossible(run: RunConfig) -> None:
    """Raises ConfigError if an option cannot be part of this run."""
    for option in run.list_options():
        if (sentence := option.find_refusal(run)) is not None:
            raise ConfigError(as_message(sentence))


def refuse_find(stage: Stage, private: bool, processes: int, resumed: str | None) -> None:
    """Raises ConfigError if the rate cannot be found by a range test, or if it may not be tried."""
    if stage.rolls_out:
        raise ConfigError(
            "+find=lr is not possible with stage={stage}: its loss does not measure progress; leave optim.lr empty.",
            stage=stage.name,
        )
    if private:
        raise ConfigError(
            "+find=lr reads the data without an account of privacy; find the rate on public data, with privacy=none."
        )
    if processes > 1:
        raise ConfigError("+find=lr runs in one process; use trainer.devices=1 for it, the rate is the same.")
    if resumed is not None:
        raise ConfigError("+find=lr begins from the start of a run; leave resume.run out.")
