"""A small run with everything that a resumed one must get right; also a script: `toy_training.py FOLDER key=value ...`.

Sixteen examples in micro-batches of two, three of them an optimizer step: three steps an epoch, the last one short.
Dropout and noise from torch, numpy and python in training; noise in evaluation; a frozen weight; a tied one.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from fulgurite.callback.checkpoint import Checkpoints
from fulgurite.callback.signals import SignalHandler
from fulgurite.checkpoint import resume
from fulgurite.checkpoint.io import FolderCheckpointIO
from fulgurite.errors import Interrupted
from fulgurite.logger.metrics_file import MetricsFile
from fulgurite.trainer.build import quiet

ROWS, BATCH, K = 16, 6, 3
PER_EPOCH = -(-ROWS // BATCH)


class Loader:
    """K micro-batches a step; the order is a function of (epoch, step), and iter() begins at the trainer's step."""

    def __init__(self) -> None:
        self.trainer: Trainer | None = None

    def __len__(self) -> int:
        return PER_EPOCH * K

    def __iter__(self) -> Iterator[Tensor]:
        torch.rand(1)  # a start draws from the generators, as torch's own DataLoader does
        epoch, begin = divmod(self.trainer.global_step, PER_EPOCH)
        order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(1000 + epoch))
        steps = [order[step * BATCH:(step + 1) * BATCH] for step in range(begin, PER_EPOCH)]
        return iter([ids for step in steps for ids in step.tensor_split(K)])


class Model(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.strict_loading = False
        self.frozen, self.first, self.out = nn.Linear(4, 8), nn.Linear(8, 8, bias=False), nn.Linear(8, 1)
        self.tied = nn.Linear(8, 8, bias=False)
        self.tied.weight = self.first.weight
        self.frozen.requires_grad_(False)
        self.ids: list[int] = []

    def loss(self, ids: Tensor, p: float) -> Tensor:
        x = torch.stack([ids, ids**2, ids.sin(), ids.cos()], dim=1).float() / 10
        h = nn.functional.dropout(self.tied(self.first(self.frozen(x)).tanh()), p)
        return ((self.out(h)[:, 0] - ids.float().sin()) ** 2).mean()

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.ids += batch.tolist()
        factor = 1 + 0.1 * random.gauss(0, 1) + 0.1 * float(np.random.rand())
        return self.loss(batch, 0.5) * factor + 0.01 * torch.randn(())

    def on_validation_epoch_start(self) -> None:
        self.sums: list[Tensor] = []

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.sums.append(self.loss(batch, 0.0) + 0.001 * torch.randn(()))

    def on_validation_epoch_end(self) -> None:
        self.log("val/loss", torch.stack(self.sums).mean())

    def train_dataloader(self) -> Loader:
        loader = Loader()
        loader.trainer = self.trainer
        return loader

    def val_dataloader(self) -> Any:
        return torch.utils.data.DataLoader(torch.arange(20, 26), batch_size=2)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW([p for p in self.parameters() if p.requires_grad], lr=1e-2)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / 20)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class TokenDataset(Callback):
    """One row a step and one an evaluation, in the file of rows that a real run has."""

    def __init__(self, path: Path) -> None:
        self.file, self.step = MetricsFile(path), 0

    def on_train_start(self, trainer: Trainer, module: Model) -> None:
        self.step = trainer.global_step
        if trainer.is_global_zero:
            self.file.rewind(trainer.global_step)

    def row(self, trainer: Trainer, **numbers: Any) -> None:
        if trainer.is_global_zero:
            self.file.write(numbers)

    def on_train_batch_end(self, trainer: Trainer, module: Model, out: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step != self.step:
            self.step = trainer.global_step
            ids, module.ids = module.ids, []
            lr = trainer.optimizers[0].param_groups[0]["lr"]
            self.row(trainer, step=self.step, epoch=trainer.current_epoch, loss=float(out["loss"]), lr=lr, ids=ids)

    def on_validation_end(self, trainer: Trainer, module: Model) -> None:
        found = {"val/loss": float(trainer.callback_metrics["val/loss"])}
        self.row(trainer, step=trainer.global_step, epoch=trainer.current_epoch, **found)


class At(Callback):
    """Calls `act` at a hook once `step` steps are done, `batch` micro-batches later."""

    def __init__(self, hook: str, step: int, act: Callable[[], None], batch: int = 0) -> None:
        def call(trainer: Trainer, module: Model, *rest: Any) -> None:
            if trainer.global_step == step and not self.done and self.passed == batch:
                self.done = True
                act()
            self.passed = self.passed + 1 if trainer.global_step == step else 0

        self.done, self.passed = False, 0
        setattr(self, hook, call)


def train(
    run: Path, *extra: Callback, epochs: int = 3, limit: str = "epochs", save_every: int = 2, eval_every: int = 2,
    keep: int = 2, model: Model | None = None, identity: dict[str, Any] | None = None, allow: list[str] | None = None,
    processes: int = 1, stop: int = 0, tracker: Any = False,
) -> Checkpoints:
    """Train into `run`, going on from its newest checkpoint; the last rank gets a signal after step `stop`."""
    rank = int(os.environ.get("RANK", "0"))
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(5 + rank)
    if stop and rank == processes - 1:
        extra = (*extra, At("on_train_batch_start", stop, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    model = model or Model()
    run.mkdir(parents=True, exist_ok=True)
    checkpoints = Checkpoints(run / "checkpoints", save_every, keep, identity=identity, allow=allow or [])
    listener = SignalHandler(checkpoints)
    quiet()
    trainer = Trainer(
        accelerator="cpu", devices=processes, strategy="ddp" if processes > 1 else "auto",
        max_epochs=epochs if limit == "epochs" else -1,
        max_steps=-1 if limit == "epochs" else epochs * PER_EPOCH, accumulate_grad_batches=K,
        val_check_interval=eval_every * K, check_val_every_n_epoch=None, num_sanity_val_steps=0, logger=tracker,
        callbacks=[TokenDataset(run / "metrics.jsonl"), *extra, listener, checkpoints], plugins=[FolderCheckpointIO()],
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=True, default_root_dir=run,
    )
    with listener.listening(), warnings.catch_warnings():
        quiet()
        warnings.filterwarnings("ignore", message=".*The number of training batches.*")
        trainer.fit(model, ckpt_path=resume.find(run))
    return checkpoints


def digest(run: Path) -> dict[str, str]:
    """The sha256 of each file of the newest checkpoint, and the rows."""
    last = run / "checkpoints" / "last"
    files = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(last.iterdir())}
    return {"folder": last.resolve().name, **files, "rows": (run / "metrics.jsonl").read_text()}


def slowed(seconds: float) -> None:
    """Make each part of a checkpoint take its time, for a killer to find it in the middle."""
    import time

    from fulgurite.checkpoint import io
    from fulgurite.files import atomic

    own = ("sync", "publish_folder", "remove_folder", "replace_link")
    for module, name in ((io, "_save"), *((atomic, name) for name in own)):
        real = getattr(module, name)

        def slow(*words: Any, real: Callable[..., Any] = real) -> Any:
            time.sleep(seconds)
            return real(*words)

        setattr(module, name, slow)


def run_rank(words: list[str], environment: dict[str, str]) -> None:
    """The command of one rank, in a process that a fork server has started; leaves with its exit status."""
    os.environ.update(environment)
    main(words)


def main(words: list[str]) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    options = dict(word.split("=") for word in words[1:])
    if "slow" in options:
        slowed(float(options.pop("slow")))
    try:
        train(Path(words[0]), **{key: value if key == "limit" else int(value) for key, value in options.items()})
    except Interrupted as interrupted:
        print(interrupted, file=sys.stderr)
        sys.exit(interrupted.exit_status)


if __name__ == "__main__":
    main(sys.argv[1:])
