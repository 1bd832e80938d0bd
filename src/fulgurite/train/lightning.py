"""What Fulgurite replaces of Lightning, and why: everything else is Lightning's own.

`REPLACED` names each piece, what Lightning (2.6) does instead, measured, and the test that fails when a new version of
Lightning makes the piece unnecessary. Code that exists only because of Lightning's Trainer is in this module.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from fulgurite.checkpoint.io import FolderCheckpointIO
from fulgurite.errors import Interrupted


@dataclass(frozen=True, slots=True)
class Replacement:
    """A piece of Lightning that Fulgurite does itself."""

    name: str
    lightning: str
    """What Lightning does."""
    ours: str
    """`module:name` of what takes its place."""
    test: str
    """The function in tests/train/test_lightning.py that shows what Lightning does."""


REPLACED = (
    Replacement(
        "the mean over a step",
        "averages the means of the micro-batches, so that a token of a short micro-batch counts more than one of a "
        "long one",
        "fulgurite.stage.base:StageModule.training_step", "test_lightning_averages_the_means_of_micro_batches",
    ),
    Replacement(
        "the last step of an epoch",
        "divides a window of fewer micro-batches by the configured number; our sampler gives every step the same "
        "number",
        "fulgurite.data.sampler:StepSampler", "test_lightning_divides_a_partial_window_by_the_configured_number",
    ),
    Replacement(
        "losses that are not numbers", "trains on, and saves weights that are not finite",
        "fulgurite.stage.nonfinite:refuse_nonfinite", "test_lightning_trains_on_after_a_loss_that_is_no_number",
    ),
    Replacement(
        "checkpoint files",
        "writes one file with pickle, which is neither atomic across file systems nor flushed to the disk",
        "fulgurite.checkpoint.io:FolderCheckpointIO", "test_lightnings_checkpoint_is_a_pickle",
    ),
    Replacement(
        "when checkpoints are saved",
        "saves inside the hooks of a step, before its evaluation and its rows of metrics are done",
        "fulgurite.callback.checkpoint:Checkpoints", "test_lightning_saves_before_the_evaluation_of_the_step",
    ),
    Replacement(
        "the position of a resumed run", "stores loop counters that differ from hook to hook",
        "fulgurite.checkpoint.loop:build_fit_loop_state", "test_lightnings_loop_counters_differ_from_hook_to_hook",
    ),
    Replacement(
        "random states of a resumed run", "stores none, so that dropout differs after a resume",
        "fulgurite.checkpoint.rng:restore", "test_lightnings_checkpoint_has_no_random_state",
    ),
    Replacement(
        "Ctrl-C", "ends the process with status 1 and saves nothing",
        "fulgurite.callback.signals:SignalHandler", "test_lightning_answers_ctrl_c_with_exit_status_1",
    ),
    Replacement(
        "the process group", "leaves it initialised, and its threads abort a process that ends (exit status 134)",
        "fulgurite.train.lightning:clean_process_group", "test_lightning_leaves_the_process_group",
    ),
    Replacement(
        "loggers that fail", "ends the run with the logger's error",
        "fulgurite.logger.guard:GuardedLogger", "test_a_logger_that_fails_ends_lightnings_fit",
    ),
)


def fit(trainer: Trainer, module: LightningModule, data: LightningDataModule, checkpoint: Path | None = None) -> None:
    """Runs `trainer.fit`. Raises Interrupted if code beside ours raised KeyboardInterrupt,
    which Lightning answers with SystemExit."""
    try:
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint)
    except SystemExit as left:
        # A SystemExit that something else raised is passed on.
        if isinstance(left.__context__, KeyboardInterrupt):
            raise Interrupted(
                "Interrupted by a KeyboardInterrupt in the training step; earlier checkpoints are whole."
            ) from left
        raise


def build_checkpoint_plugin() -> FolderCheckpointIO:
    """Returns the plugin by which a Trainer saves and loads checkpoint folders."""
    return FolderCheckpointIO()


@contextlib.contextmanager
def clean_process_group() -> Iterator[None]:
    """Destroys at the end the process group that a fit inside has left."""
    try:
        yield
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
