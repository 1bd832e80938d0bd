"""Lets a stage train with any Lightning Trainer: checks before step 1, random state, precision, pace, `self.log`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from fulgurite.callback.optimizer_step import TrainingClock
from fulgurite.checkpoint import rng
from fulgurite.config.run import RunConfig
from fulgurite.errors import ConfigError
from fulgurite.precision.policy import Dtypes
from fulgurite.privacy.mechanism import Mechanism
from fulgurite.stage.trainer_check import refuse_cut_steps, refuse_other_mathematics


class TrainerHooks(LightningModule):  # type: ignore[misc]
    """A LightningModule that computes the same with our Trainer and with any other."""

    run: RunConfig
    dtypes: Dtypes
    total_steps: int
    mechanism: Mechanism | None = None

    def __init__(self) -> None:
        super().__init__()
        self.pace = TrainingClock()
        self.step_record: dict[str, float] = {}
        self.step_tokens_read = 0
        self.random_state: dict[str, Tensor] | None = None
        """The random state with which training begins, also if numbers are drawn between the building of the stage and
        its fit."""
        self.micro_batches_per_step = 0
        """Set by the data module; 0 for a stage that is used without one."""
        self.resumes_from: Path | None = None
        """The checkpoint of our own from which the run continues."""
        self.logs_to_trackers = True
        """False with the callback that writes metrics: it sends each to the trackers once, with its step and tokens."""
        self.has_trained = False
        self._timed = 0.0

    def on_fit_start(self) -> None:
        """Refuses a Trainer that would compute something else, and restores the random state of the run's start."""
        refuse_other_mathematics(self.trainer, self)
        if self.random_state is not None:
            rng.restore(self.random_state, torch.device("cuda" if "cuda" in self.random_state else "cpu"))

    def on_train_start(self) -> None:
        """Refuses batches that are not the run's."""
        refuse_cut_steps(self.trainer, self)
        self.has_trained = True

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Continues the clock of training: the time of callbacks before this micro-batch is a pause.

        Raises ConfigError for a batch that is not from the run's data module.
        """
        if "step_targets" not in batch:
            raise ConfigError(
                "The batch has no step_targets, the count of its step's mean; train on experiment.data."
            )
        self.pace.go()

    def on_validation_start(self) -> None:
        """A pause begins, until the next micro-batch."""
        self.pace.hold()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """A pause begins, until the next micro-batch."""
        self.pace.hold()

    def teardown(self, stage: str) -> None:
        """Frees what is kept beside the model."""
        self.close()

    def close(self) -> None:
        """Frees what is kept beside the model; called when training ends, for any reason, and possibly more than
        once."""

    def precision_context(self) -> contextlib.AbstractContextManager[Any]:
        """Returns the run's autocast if the Trainer does not apply it, because it was given no precision."""
        if self.trainer.precision == self.dtypes.lightning:
            return contextlib.nullcontext()
        return self.dtypes.autocast(self.device.type)

    def log_step(self) -> None:
        """Logs `step_record` and the tokens per second of the step's own time, once per optimizer step."""
        self.pace.tick()
        # The time since the last step without the pauses in it: `trained` leaves them out.
        seconds, self._timed = self.pace.trained - self._timed, self.pace.trained
        speed = self.step_tokens_read / seconds if seconds > 0 else 0.0
        numbers = self.step_record | {"train/tokens_per_second": speed}
        if self.logs_to_trackers:
            self.log_numbers(numbers)
        else:
            # callbacks read them as if they were logged: `self.log` costs half a millisecond a number (one CPU thread)
            self.trainer.callback_metrics.update({name: torch.tensor(value) for name, value in numbers.items()})

    def log_numbers(self, numbers: dict[str, float]) -> None:
        """Logs through Lightning: to its callbacks, and to the Trainer's loggers unless our rows go to them."""
        self.log_dict(numbers, logger=self.logs_to_trackers and bool(self.trainer.loggers))
