"""A stage small enough to read: one linear layer, what the callbacks expect of a stage, and a trainer for it."""

from __future__ import annotations

import contextlib
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader

from fulgurite.callback.optimizer_step import TrainingClock
from fulgurite.logger.guard import guard_logger

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class ToyStage(LightningModule):
    """Counts 5 tokens read and 3 trained a micro-batch; keeps the contract of `step_record`."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.model = torch.nn.Linear(4, 1)
        self.step_record: dict[str, float] = {}
        self.tokens_seen = self.step_tokens_read = self._micro = 0
        self._sum = 0.0
        self.pace = TrainingClock(clock)
        self.logs_to_trackers = True

    def on_train_batch_start(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.pace.go()

    def on_validation_start(self) -> None:
        self.pace.hold()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.pace.hold()

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        loss = (self.model(batch) ** 2).mean()
        self._micro += 1
        self._sum += float(loss.detach())
        return loss

    def configure_gradient_clipping(self, optimizer: Any, *rest: Any, **more: Any) -> None:
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        norm = float(torch.nn.utils.get_total_norm(gradients))
        self.tokens_seen += 3 * self._micro
        self.step_tokens_read = 5 * self._micro
        self.step_record = {
            "train/loss": self._sum / self._micro, "train/lr": optimizer.param_groups[0]["lr"],
            "train/grad_norm": norm, "train/clipped": 0.0,
        }
        self._micro, self._sum = 0, 0.0

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log("val/loss", (self.model(batch) ** 2).mean(), logger=False)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    @contextlib.contextmanager
    def inference_context(self) -> Iterator[None]:
        yield


def loader(rows: int = 4) -> DataLoader[torch.Tensor]:
    """The same batches each time: the order is not drawn."""
    generator = torch.Generator().manual_seed(2)
    return DataLoader(torch.randn(rows, 4, generator=generator), batch_size=1)  # type: ignore[arg-type]


def fit(
    callbacks: list[Any], *, steps: int = 6, micro: int = 2, eval_every: int | None = None,
    loggers: list[Any] | None = None, stage: ToyStage | None = None, folder: Any = ".", checkpoints: bool = False,
) -> ToyStage:
    """Train `steps` steps of `micro` micro-batches; validate every `eval_every` steps. Returns the stage."""
    stage = stage or ToyStage()
    with warnings.catch_warnings():
        # Lightning's advice on workers, tips and pytree names is no concern of these tests.
        warnings.simplefilter("ignore")
        trainer = Trainer(
            accelerator="cpu", max_steps=steps, max_epochs=-1, accumulate_grad_batches=micro, gradient_clip_val=1.0,
            val_check_interval=eval_every * micro if eval_every else None, check_val_every_n_epoch=None,
            limit_val_batches=None if eval_every else 0, num_sanity_val_steps=0,
            logger=[guard_logger(logger) for logger in loggers] if loggers else False,
            callbacks=callbacks, enable_checkpointing=checkpoints, enable_progress_bar=False,
            enable_model_summary=False, log_every_n_steps=1, default_root_dir=folder,
        )
        trainer.fit(stage, loader(), loader(2) if eval_every else None)
    return stage
