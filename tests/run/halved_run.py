"""A run that halves its micro-batch when memory runs out, and goes on after a resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.end_to_end.runs import tiny

from fulgurite.stage.causal_lm import LanguageStage

HALVED_WORDS = (
    "method=full", "optim.lr=1e-3", "trainer.save_every=1", "scheduler=constant", "trainer.micro_batch_size=2",
)
SHORTAGE = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."


def run_short_of_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Trains 3 steps, of which the third runs out of memory with 2 rows at a time, then a fourth after a resume."""
    plain = LanguageStage.compute_total_loss

    def total_loss(self: LanguageStage, batch: dict[str, Any]) -> torch.Tensor:
        if self.training and self.trainer.global_step == 2 and len(self._window) == 2 and len(batch["rows"]) == 2:
            raise RuntimeError(SHORTAGE)
        return plain(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(LanguageStage, "compute_total_loss", total_loss)
        tiny(folder, *HALVED_WORDS, "trainer.max_steps=3")
    return tiny(folder, *HALVED_WORDS, "trainer.max_steps=4", "resume.allow=[trainer.max_steps]")
