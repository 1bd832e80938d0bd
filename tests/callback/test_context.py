"""What a callback is built from: a callback registered by a person gets the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
from lightning.pytorch import Callback
from tests.end_to_end.runs import tiny

from fulgurite.callback.config import CallbackOption
from fulgurite.callback.context import CallbackContext
from fulgurite.config.schema import _options, option

BARE = ["data.val_fraction=0", "trainer.max_steps=2"]


class Counting(Callback):  # type: ignore[misc]
    """Counts the optimizer steps of the run that it was built for."""

    def __init__(self, context: CallbackContext) -> None:
        self.total, self.steps = context.total_steps, 0

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.steps += 1


COUNTED: list[Counting] = []


def build_counting(option: CallbackOption, context: CallbackContext) -> Counting:
    COUNTED.append(Counting(context))
    return COUNTED[-1]


def test_a_registered_callback_is_built_from_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_options, "callback", dict(_options["callback"]))

    @option("callback", "counting")
    class Count(CallbackOption):
        """Counts."""

        builds: ClassVar[str] = f"{__name__}:build_counting"

    tiny(tmp_path, *BARE, "callback=[counting]")
    assert [(callback.steps, callback.total) for callback in COUNTED] == [(2, 2)]
