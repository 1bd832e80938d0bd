"""The data of a run as a LightningDataModule, for our Trainer and any other."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from fulgurite.data.dataset import AnyRows
from fulgurite.data.loader import build_train_loader, build_val_loader
from fulgurite.data.sampler import PoissonSampler, StepSampler
from fulgurite.stage.base import StageModule


class StageData(LightningDataModule):  # type: ignore[misc]
    """Training examples in the order of the stage's sampler, and the validation examples.

    An optimizer step is always `micro_batches_per_step` batches: `accumulate_grad_batches` of the Trainer must be
    that number. The loader begins at the step of its Trainer, so that a resumed run reads the same examples.
    """

    def __init__(
        self,
        stage: StageModule,
        rows: AnyRows,
        val: AnyRows | None,
        processes: int = 1,
        order: StepSampler | PoissonSampler | None = None,
    ) -> None:
        super().__init__()
        self.stage, self.rows, self.val, self.processes = stage, rows, val, processes
        self.order = order or stage.build_sampler(rows.lengths, processes, 0)
        stage.micro_batches_per_step = self.micro_batches_per_step

    @property
    def micro_batches_per_step(self) -> int:
        """The number of batches of a process in an optimizer step."""
        return self.order.micro_batches_per_step

    @property
    def rank(self) -> int:
        """The number of this process in its Trainer; 0 without one."""
        return int(self.trainer.global_rank) if self.trainer is not None else 0

    def train_dataloader(self) -> DataLoader[Any]:
        """Builds the loader of micro-batches from the Trainer's step to the end of its epoch."""
        if isinstance(self.order, StepSampler):
            # Known only now: the sampler is older than the Trainer.
            self.order.rank = self.rank
        stage, workers = self.stage, self.stage.run.trainer.num_workers
        return build_train_loader(
            self.rows, self.order, self._position, workers=workers, ahead=stage.ahead, fill=stage.is_sharded
        )

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Builds the loader of every validation example, once over all processes; an empty list if there are none."""
        if self.val is None:
            return []
        stage = self.stage
        return build_val_loader(
            self.val, stage.validation_batch_size, self.processes, self.rank, stage.ahead, stage.is_sharded
        )

    def _position(self) -> int:
        return int(self.trainer.global_step) if self.trainer is not None else 0
