"""Makes checkpoints, keeps some of them, and lets a run resume from one exactly.

Not Lightning's ModelCheckpoint: its save is not atomic where $TMPDIR is another file system and never calls fsync, so a
full disk destroyed the earlier file (measured); and it saves inside hooks, before the rows and the evaluation of a step
are done. This is a `Checkpoint` all the same, so that Lightning calls it after all other callbacks.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.callbacks import Checkpoint

from fulgurite.checkpoint import folder, loop, resume, rng, weights
from fulgurite.files import atomic
from fulgurite.language.message import message

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer
    from torch import Tensor

log = logging.getLogger(__name__)


class Checkpoints(Checkpoint):  # type: ignore[misc]
    """Saves `folder/step-N` every `save_every` optimizer steps, at each new best value of `best`, and at the end.

    A step's checkpoint is made when the step is wholly done: its rows are written and its evaluation, if one is
    due, is over, that is, before the first batch of the next step. The newest `keep` and the best are kept; `last` and
    `best` are relative links. `identity` (names to plain values: data hash, template, version) must be the same when
    the run goes on, but for those in `allow`. Other callbacks must not change their state in `on_train_batch_start`.
    """

    def __init__(
        self,
        folder: Path,
        save_every: int,
        keep: int = 2,
        best: str = "val/loss",
        identity: Mapping[str, Any] | None = None,
        allow: Sequence[str] = (),
    ) -> None:
        self.folder, self.save_every, self.keep, self.best = Path(folder), save_every, keep, best
        self.identity, self.allow = dict(identity or {}), allow
        self.newest: int | None = None
        """The step of the checkpoint that this process made last or came from."""
        self.best_step: int | None = None
        self.best_value = math.inf
        self._improved = False
        self._evaluated = True
        self._random: dict[str, Tensor] | None = None
        self._buffers: dict[str, Tensor] = {}
        self._before_evaluation: dict[str, Tensor] | None = None
        self._to_restore: dict[str, Tensor] | None = None

    # --- the state of the run

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Clear away what a killed process left, and note the buffers that training may change."""
        if trainer.is_global_zero:
            atomic.remove_drafts(self.folder)
        self._buffers = weights.copy_buffers(pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the trained weights only, the position in place of Lightning's counters, and the random states."""
        checkpoint["state_dict"] = weights.select_weights(pl_module, self._buffers)
        del checkpoint["loops"]
        state = self._before_evaluation if not self._evaluated else self._random
        checkpoint[loop.KEY] = {
            "step": trainer.global_step,
            "per_epoch": int(trainer.num_training_batches) // trainer.accumulate_grad_batches,
            "evaluated": self._evaluated,
            "best_step": self.best_step,
            "best_value": self.best_value,
            "identity": self.identity,
            "rng": rng.gather(state or rng.capture(trainer.strategy.root_device), trainer.strategy),
        }

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Restores the state of a checkpoint. Raises CheckpointError for other weights, identity or world size."""
        own = checkpoint[loop.KEY]
        place = self.folder / folder.name_step(own["step"])
        then, now = resume.comparable(own["identity"], self.identity)
        resume.check_same(then, now, resume.allowed_beside(self.allow, now), place, kept=self.allow)
        weights.check_names(pl_module, checkpoint["state_dict"], str(place))
        position = loop.Position(own["step"], own["per_epoch"], own["evaluated"])
        checkpoint["loops"] = {"fit_loop": loop.build_fit_loop_state(position, trainer.accumulate_grad_batches)}
        self._to_restore = rng.select_rank(own["rng"], trainer.global_rank, trainer.world_size, self.allow)
        self.newest, self.best_step, self.best_value = own["step"], own["best_step"], own["best_value"]
        # the order of the examples is a function of the step, so the loader needs no state to be resumable
        warnings.filterwarnings("ignore", message="You're resuming from a checkpoint that ended before the epoch ended")

    # --- when a checkpoint is made

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Saves between two optimizer steps if it is due."""
        if is_at_boundary(trainer, batch_idx):
            self._restore(trainer)
            if trainer.global_step > 0 and (self._improved or trainer.global_step % self.save_every == 0):
                self.save(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the random state: a run stopped inside its evaluation begins it again."""
        if not trainer.sanity_checking:
            self._restore(trainer)
            self._before_evaluation = rng.capture(trainer.strategy.root_device)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See whether this step is the best so far."""
        if trainer.sanity_checking:
            return
        self._before_evaluation = None
        if self.best not in trainer.callback_metrics:
            log.warning(message(
                "The evaluation logged no {name}, so there is no best checkpoint, only the newest.", name=self.best
            ))
        found = torch.as_tensor(trainer.callback_metrics.get(self.best, math.nan), dtype=torch.float64)
        # the mean over ranks is the same number on each, so that all of them save or none
        value = float(trainer.strategy.reduce(found.to(trainer.strategy.root_device), reduce_op="mean"))
        if value < self.best_value:
            self.best_value, self.best_step, self._improved = value, trainer.global_step, True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the end of the run."""
        last = self.save(trainer)
        self._send(trainer, "last", last)
        if self.best_step is not None:
            self._send(trainer, "best", self.folder / folder.name_step(self.best_step))

    def save(self, trainer: Trainer, evaluated: bool = True, random: dict[str, Tensor] | None = None) -> Path:
        """Make the checkpoint of the current step, unless it is there, then bring links and retention up to date.

        Call it on all ranks, between two optimizer steps; `evaluated` is false while this step's evaluation is owed.
        `random` is the random state between the steps, if numbers were drawn since. Raises CheckpointError or
        TrainingFailed, and leaves the earlier checkpoint, if it cannot be made.
        """
        step = trainer.global_step
        path = self.folder / folder.name_step(step)
        if step != self.newest:
            self._evaluated, self._random = evaluated, random
            trainer.save_checkpoint(path)
            self.newest = step
            self._send(trainer, "all", path)
        self._improved = False
        if trainer.is_global_zero:
            folder.update_links(self.folder, step, self.best_step)
            self._retire(step)
        return path

    def _send(self, trainer: Trainer, kind: str, path: Path) -> None:
        """Offers a checkpoint to the trackers that keep some."""
        if trainer.is_global_zero:
            for tracker in trainer.loggers:
                if hasattr(tracker, "log_checkpoint"):
                    tracker.log_checkpoint(path, trainer.global_step, kind)

    def _restore(self, trainer: Trainer) -> None:
        """Restores the random state after all that a start draws."""
        if self._to_restore is not None:
            rng.restore(self._to_restore, trainer.strategy.root_device)
            self._to_restore = None

    # --- which are kept

    def _retire(self, step: int) -> None:
        """Delete what is older than the newest `keep`, but for the best. Higher steps are damaged and do not count."""
        older = [s for s in folder.list_steps(self.folder) if s <= step]
        for old in older[: -self.keep]:
            if old != self.best_step:
                atomic.remove_folder(self.folder / folder.name_step(old))


def is_at_boundary(trainer: Trainer, batch_idx: int) -> bool:
    """Whether the micro-batch about to begin is the first of an optimizer step."""
    return bool(batch_idx % trainer.accumulate_grad_batches == 0)
