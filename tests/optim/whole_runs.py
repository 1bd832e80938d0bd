"""Whole runs of the tiny model with an optimizer: stopped, resumed, and looked at while they train."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback
from safetensors.torch import load_file

import fulgurite as fg
from fulgurite.callback.signals import SignalHandler
from fulgurite.errors import Interrupted

BASE = {
    "model": "tiny",
    "data.max_samples": "40",
    "trainer.max_steps": "9",
    "trainer.global_batch_size": "4",
    "trainer.micro_batch_size": "2",
    "precision": "fp32",
    "scheduler": "constant_with_warmup",
    "scheduler.warmup_steps": "2",
    "trainer.eval_every": "3",
    "trainer.save_every": "2",
    "stage.max_new_tokens": "3",
    "data.val_fraction": "0.1",
    "logger": "none",
}


class StopAfter(Callback):  # type: ignore[misc]
    """Asks the run to stop once a step is done, as a signal would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step:
            import signal

            [stop] = [c for c in trainer.callbacks if isinstance(c, SignalHandler)]
            stop.asked = signal.SIGTERM


def train(folder: Path, *words: str, stop: int | None = None, look: Callback | None = None) -> Path:
    said = {w.partition("=")[0]: w.partition("=")[2] for w in words}
    own = [*([look] if look is not None else []), *([StopAfter(stop)] if stop is not None else [])]
    experiment = fg.experiment(
        *(f"{k}={v}" for k, v in (BASE | said | {"run_dir": str(folder)}).items()), callbacks=own
    )
    with pytest.raises(Interrupted) if stop is not None else contextlib.nullcontext():
        experiment.fit()
    return folder


def read_last(folder: Path) -> dict[str, Any]:
    last = folder / "checkpoints" / "last"
    files = {p.name: load_file(p) for p in sorted(last.glob("*.safetensors"))}
    return {**files, "state": json.loads((last / "state.json").read_text())["optimizer"]}


class Gradients(Callback):  # type: ignore[misc]
    """Notes which parameters have a gradient at each step, and whether all ask for one between the steps."""

    def __init__(self) -> None:
        self.seen: list[set[str]] = []

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.seen.append({n for n, p in pl_module.named_parameters() if p.grad is not None})
        assert all(p.requires_grad for p in pl_module.parameters())
