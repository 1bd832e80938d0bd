"""`plugins=[shortage_plugin]`: step 4 is out of memory in its second micro-batch of two rows, in process SHORT_RANK."""

import os
from typing import Any

from torch import Tensor

from fulgurite.stage.causal_lm import LanguageStage

SAID = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "8 bytes."
)
plain = LanguageStage.compute_total_loss


def compute_total_loss(self: LanguageStage, batch: dict[str, Any]) -> Tensor:
    here = os.environ.get("RANK", "0") == os.environ.get("SHORT_RANK", "0")
    if here and self.training and self.trainer.global_step == 3 and len(self._window) == 2 and len(batch["rows"]) == 2:
        raise RuntimeError(SAID)
    return plain(self, batch)


LanguageStage.compute_total_loss = compute_total_loss  # type: ignore[method-assign]
