"""Several optimizers as one: each updates its own parameters; schedules and checkpoints see one list of groups.

Lightning's own several optimizers need manual optimization, and count a step for each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.optim import Optimizer


class MultiOptimizer(Optimizer):
    """Updates its parts, which share its groups and state, so that changes and restored state reach them."""

    def __init__(self, parts: Iterable[Optimizer]) -> None:
        self.parts = list(parts)
        # The parts have applied their own defaults to these groups already.
        super().__init__([group for part in self.parts for group in part.param_groups], {})
        self._sizes = [len(part.param_groups) for part in self.parts]
        self._share()

    def _share(self) -> None:
        start = 0
        for part, size in zip(self.parts, self._sizes, strict=True):
            # The same objects, not copies: a schedule that sets group["lr"] here must reach the part.
            part.state, part.param_groups = self.state, self.param_groups[start : start + size]
            start += size

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads the state as torch does, which makes new groups and a new state, and shares them with the parts
        again."""
        super().load_state_dict(state_dict)
        self._share()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Calls the step of each part."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            # The closure was called above, once: each part would compute the loss again.
            part.step()
        return loss
