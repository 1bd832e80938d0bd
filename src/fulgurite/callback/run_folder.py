"""Ends a run whose folder is gone: what it writes from then on would be lost, or be half a run in another folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback

from fulgurite.errors import TrainingFailed

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

CONFIG = "config.yaml"
"""The file without which neither export nor resume can use the folder."""


class RunFolderGuard(Callback):  # type: ignore[misc]
    """The first of the callbacks: checks the folder before any of them writes.

    Raises TrainingFailed in the first process.

    The folder is known by an open descriptor, which keeps its inode from being given to another folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: int | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Remember which folder it is."""
        if trainer.is_global_zero and self._open is None:
            self._open = os.open(self.folder, os.O_RDONLY)
            self._check(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let it go."""
        if self._open is not None:
            os.close(self._open)
            self._open = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Before a checkpoint."""
        self._check(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Before a row of metrics."""
        self._check(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Before the row of an evaluation."""
        self._check(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Before the last checkpoint."""
        self._check(trainer)

    def _check(self, trainer: Trainer) -> None:
        if self._open is None:
            return
        try:
            same = os.path.samestat(os.fstat(self._open), os.stat(self.folder)) and (self.folder / CONFIG).is_file()
        except FileNotFoundError:
            same = False
        except OSError:  # a network that is away for a moment: the next write reports it
            return
        if not same:
            raise TrainingFailed(
                "The run folder {folder} was removed, moved or emptied while the run trained (after step "
                "{step}): what is trained can no longer be kept. Put it back and give resume.run=<its "
                "path>, or start again in another run_dir.",
                folder=self.folder, step=trainer.global_step,
            )
