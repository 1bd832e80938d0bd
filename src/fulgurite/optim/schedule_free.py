"""Schedule-free AdamW from schedulefree (Defazio et al., https://arxiv.org/abs/2405.15682).

The parameters hold y, at which gradients are computed. Evaluated and saved is the average x, computed from y and z.
The library converts one into the other and back in place, which changes bits; here y is kept instead.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from schedulefree import AdamWScheduleFree
from torch import Tensor, nn
from torch.optim import Optimizer

from fulgurite.optim import config as c
from fulgurite.optim.param_groups import build_decay_groups


class ScheduleFreeOptimizer(AdamWScheduleFree):  # type: ignore[misc]
    """Stays in the library's training mode; `averaged` and `averages` replace its evaluation mode."""

    def __init__(self, groups: list[dict[str, Any]], **knobs: Any) -> None:
        super().__init__(groups, **knobs)
        self._kept: dict[nn.Parameter, Tensor] = {}
        # The library's step refuses to run in its evaluation mode, in which it begins.
        self.train()

    def averages(self) -> Iterator[tuple[nn.Parameter, Tensor]]:
        """Yields each parameter that was ever updated, with its average x, a new tensor."""
        for group in self.param_groups:
            beta = group["betas"][0]
            for parameter in group["params"]:
                if "z" in self.state[parameter]:
                    y = self._kept.get(parameter, parameter.detach())
                    # y = (1 - β) z + β x, solved for x: x = z + (y - z) / β.
                    yield parameter, torch.lerp(y, self.state[parameter]["z"], 1 - 1 / beta)

    @contextlib.contextmanager
    @torch.no_grad()
    def averaged(self) -> Iterator[None]:
        """Makes the parameters hold x inside the block, and y again after it, bit for bit. A nested block changes
        nothing.
        """
        if self._kept:
            yield
            return
        try:
            for parameter, average in self.averages():
                # Kept as bits: computing y again from x and z would round it.
                self._kept[parameter] = parameter.detach().clone()
                parameter.data.copy_(average)
            yield
        finally:
            for parameter, trained in self._kept.items():
                # In `finally`: a failed evaluation must not leave the averages in the model.
                parameter.data.copy_(trained)
            self._kept = {}

    def state_dict(self) -> dict[str, Any]:
        """Returns the library's state and, under `y`, the trained weights, because a checkpoint's weights are x. Copies
        nothing."""
        whole: dict[str, Any] = super().state_dict()
        every = [parameter for group in self.param_groups for parameter in group["params"]]
        # torch numbers the parameters of a saved state in the order of the groups.
        numbers = [number for group in whole["param_groups"] for number in group["params"]]
        for number, parameter in zip(numbers, every, strict=True):
            if number in whole["state"]:
                whole["state"][number] = {**whole["state"][number], "y": self._kept.get(parameter, parameter.detach())}
        return whole

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads the library's state; the parameters then hold y."""
        super().load_state_dict(state_dict)
        for parameter, state in self.state.items():
            if "y" in state:
                # Removed from the state, which would otherwise keep a second copy of the weights.
                parameter.data.copy_(state.pop("y"))


def build(config: c.ScheduleFree, module: nn.Module) -> Optimizer:
    """Builds the optimizer over the module's trained parameters."""
    first, second = config.betas
    optimizer: Optimizer = ScheduleFreeOptimizer(
        build_decay_groups(module, config), lr=config.lr or 0.0, betas=(first, second), eps=config.eps
    )
    return optimizer
