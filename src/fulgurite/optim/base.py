"""Base of our own optimizers, whose state is restored in the dtype in which it was saved."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class ExactOptimizer(Optimizer):
    """An optimizer whose state keeps its dtypes. torch casts restored state to the dtype of its parameter, which loses
    fp32 statistics of bf16 weights."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads the state as torch does, then each floating tensor again in the dtype in which it was saved."""
        super().load_state_dict(state_dict)
        keep_dtypes(self, state_dict)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Updates every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for number, parameter in enumerate(group["params"]):
                if parameter.grad is not None:
                    state = self.state[parameter]
                    # By parameter, not by optimizer: one without a gradient in some steps must not skip its bias
                    # correction.
                    state["taken"] = state.get("taken", 0) + 1
                    # Decoupled decay (AdamW): before the update, and independent of the gradient's scale.
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    self.move(parameter, parameter.grad, state, group, number)
        return loss

    def move(
        self, parameter: nn.Parameter, gradient: Tensor, state: dict[str, Any], group: dict[str, Any], number: int
    ) -> None:
        """Updates one parameter, the `number`th of its group, which is decayed already; `state["taken"]` counts its
        steps from 1."""
        raise NotImplementedError


def keep_dtypes(optimizer: Optimizer, saved: dict[str, Any]) -> None:
    """Puts the saved floating tensors into the optimizer's state in their own dtype, on their parameter's device."""
    # torch numbers parameters through all groups; the saved and the live order are the same.
    numbers = chain.from_iterable(group["params"] for group in saved["param_groups"])
    every = chain.from_iterable(group["params"] for group in optimizer.param_groups)
    for number, parameter in zip(numbers, every, strict=True):
        for name, value in saved["state"].get(number, {}).items():
            if isinstance(value, Tensor) and value.is_floating_point():
                # A copy: the loaded state dict may be mapped from a file.
                optimizer.state[parameter][name] = value.detach().to(parameter.device, copy=True)
