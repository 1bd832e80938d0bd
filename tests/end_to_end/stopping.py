"""A run that is asked to stop at a step, as a signal does."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from lightning.pytorch import Trainer

from fulgurite.callback.signals import SignalHandler


def stop_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask the next run to stop before this step, as a signal does."""
    inner = SignalHandler.on_train_batch_start

    def asked(self: Any, trainer: Trainer, *rest: Any) -> None:
        if trainer.global_step == step:
            monkeypatch.setattr(SignalHandler, "on_train_batch_start", inner)
            self.asked = signal.SIGTERM
        inner(self, trainer, *rest)

    monkeypatch.setattr(SignalHandler, "on_train_batch_start", asked)
