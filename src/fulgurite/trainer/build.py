"""Builds Lightning's Trainer from the parameters of the group, without its tips and warnings."""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import Checkpoint, ProgressBar
from lightning.pytorch.profilers import AdvancedProfiler, SimpleProfiler

from fulgurite.config.schema import Option
from fulgurite.config.schema import build as make
from fulgurite.precision.policy import Dtypes
from fulgurite.strategy.build import cluster_environment, join_processes
from fulgurite.trainer import config as c
from fulgurite.trainer.device import device


def build(
    config: c.Trainer, *, strategy: Option, private: bool, dtypes: Dtypes, folder: Path | str | None, total_steps: int,
    micro_batches: int,
    validates: bool, callbacks: list[Callback], trackers: list[Any], plugins: list[Any],
) -> Trainer:
    """Returns a Trainer of `total_steps` optimizer steps, each over `micro_batches` batches, that evaluates
    every `eval_every` steps."""
    quiet()
    processes = (config.devices or 1) * (config.num_nodes or 1)
    ranks = join_processes(config.devices, config.num_nodes, device(config))
    return Trainer(
        accelerator="gpu" if device(config) == "cuda" else "cpu",
        devices=config.devices or 1, num_nodes=config.num_nodes or 1, strategy=make(strategy, processes),
        precision=dtypes.lightning,
        # The number of steps alone ends a run; epochs are counted in steps already.
        max_steps=total_steps, max_epochs=-1, accumulate_grad_batches=micro_batches,
        # under privacy each example's gradient is clipped, by privacy.max_grad_norm; the sum must not be clipped again
        gradient_clip_val=None if private else config.max_grad_norm or None,
        gradient_clip_algorithm=str(config.clip_algorithm),
        # Lightning counts this in micro-batches, and across epochs if check_val_every_n_epoch is None.
        val_check_interval=(config.eval_every or total_steps) * micro_batches if validates else None,
        check_val_every_n_epoch=None if validates else 1, limit_val_batches=None if validates else 0,
        num_sanity_val_steps=0, logger=trackers or False, callbacks=callbacks,
        plugins=[*plugins, cluster_environment(ranks)], default_root_dir=folder,
        profiler=build_profiler(config.profiler, folder), detect_anomaly=config.detect_anomaly,
        deterministic=config.deterministic, benchmark=config.benchmark,
        enable_model_summary=config.enable_model_summary,
        enable_checkpointing=any(isinstance(c, Checkpoint) for c in callbacks),
        enable_progress_bar=any(isinstance(c, ProgressBar) for c in callbacks), use_distributed_sampler=False,
        log_every_n_steps=1,
    )


def build_profiler(kind: c.Profiler, folder: Path | str | None) -> Any:
    """Returns Lightning's profiler, which writes fit-profile.txt into the run folder; None for `none`."""
    made = {c.Profiler.none: None, c.Profiler.simple: SimpleProfiler, c.Profiler.advanced: AdvancedProfiler}[kind]
    return None if made is None else made(dirpath=folder, filename="profile")


def quiet() -> None:
    """Silences Lightning's tips, and its warnings about settings that are intended here."""
    os.environ.setdefault("LITLOGGER_DISABLE", "1")
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for text in (
        ".*does not have many workers.*", ".*no `val_dataloader`.*", ".*`max_epochs` was not set.*", ".*LeafSpec.*",
        ".*Checkpoint directory.*", ".*isinstance.treespec.*", ".*num_workers.*",
        ".*lr_scheduler.step.*before.*optimizer.step.*",
        ".*distributed.nn.functional.all_gather is deprecated.*",
        ".*sync_dist=True.*",  # what the stage logs is a mean over all processes already
    ):
        warnings.filterwarnings("ignore", message=text)
