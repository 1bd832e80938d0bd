"""Several optimizers as one: each steps its own parameters, and schedules and checkpoints see a single list of groups.

Looked at before writing this: Lightning's several optimizers, which want manual optimization and count a step for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.optim import Optimizer


class MultiOptimizer(Optimizer):
    """The parts share this optimizer's groups and state, so that what is said or restored here holds for them."""

    def __init__(self, parts: Iterable[Optimizer]) -> None:
        self.parts = list(parts)
        super().__init__([group for part in self.parts for group in part.param_groups], {})
        self._sizes = [len(part.param_groups) for part in self.parts]
        self._share()

    def _share(self) -> None:
        start = 0
        for part, size in zip(self.parts, self._sizes, strict=True):
            part.state, part.param_groups = self.state, self.param_groups[start : start + size]
            start += size

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """torch's own, which makes new groups and a new state; the parts get them too."""
        super().load_state_dict(state_dict)
        self._share()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of each part."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss
