"""privacy.json: what the run has promised, and what the steps really taken have spent."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from fulgurite.files.atomic import write_file
from fulgurite.language.library_errors import translate_system_error
from fulgurite.language.message import message

log = logging.getLogger(__name__)


class PrivacyFile(pl.Callback):  # type: ignore[misc]
    """Writes the stage's account with each checkpoint and at the end, however that comes. A full disk never ends a run.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """The account of the weights that are saved."""
        self._write(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """The final account."""
        self._write(trainer, pl_module)

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        """The account of a run that was stopped."""
        self._write(trainer, pl_module)

    def _write(self, trainer: pl.Trainer, stage: Any) -> None:
        if not trainer.is_global_zero:
            return
        try:
            write_file(self.path, json.dumps(stage.mechanism.report(), indent=1) + "\n")
        except OSError as error:
            log.warning(message(
                "{path} cannot be written ({reason}); the run goes on.",
                path=self.path, reason=translate_system_error(error),
            ))
