"""Updates of weights that are stored in bf16: their rounding, and the share of weights that they do not change.

torchao and torch-optimi round only in optimizers of their own, and torchao compiles them. Here any optimizer updates
one parameter at a time on a float32 copy, so that the whole model never exists twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from fulgurite.checkpoint.shards import get_local, is_sharded
from fulgurite.precision.config import Rounding

LOST = "lost"
"""The key of the optimizer's state under which Kahan's rounding keeps the rounding error of a weight."""
COUNT = "roundings"
"""The key of the number of rounded steps, which together with the seed decides every random number."""
PIECE = 1 << 20
"""How many numbers are rounded stochastically at a time. A CPU draws the same random numbers in pieces as at once."""
SAMPLE = 1_000_000
"""Maximum number of weights that are compared before and after a step."""


def round_stochastically(x: Tensor, generator: torch.Generator) -> Tensor:
    """Rounds float32 to bf16, up or down with the probability that makes it right on average. Works on `PIECE`
    numbers at a time, to keep temporaries small."""
    rounded = torch.empty(x.shape, dtype=torch.bfloat16, device=x.device)
    numbers, low = x.contiguous().view(-1), rounded.view(-1)
    for start in range(0, len(numbers), PIECE):
        piece = numbers[start : start + PIECE]
        # 16 random bits added below the cut carry into bf16's last bit with the right probability.
        bits = torch.randint(0, 1 << 16, piece.shape, generator=generator, dtype=torch.int32, device=x.device)
        # -65536 is 0xFFFF0000: it clears the 16 bits of float32 that bf16 does not have.
        bits.add_(piece.view(torch.int32)).bitwise_and_(-65536)
        low[start : start + PIECE] = bits.view(torch.float32)
    return rounded


class RoundedOptimizer(Optimizer):
    """An optimizer over bf16 weights whose arithmetic is float32; `unchanged` is the share of weights that the last
    step did not change.

    Groups and state are the inner optimizer's own. State is stored in bf16 and rounded stochastically: if it were
    rounded to nearest, a running variance with beta2 = 0.999 could never fall. With `nearest` the inner optimizer steps
    as it would alone.
    """

    def __init__(self, inner: Optimizer, rounding: Rounding, seed: int) -> None:
        self.inner, self.rounding, self.seed = inner, rounding, seed
        super().__init__(inner.param_groups, inner.defaults)
        self._share()
        self.param_groups[0].setdefault(COUNT, 0)
        self.unchanged = 0.0

    def __getattr__(self, name: str) -> Any:
        """Returns an attribute of the inner optimizer, if this class has none of that name."""
        # A copy has no `inner` before its attributes are restored: a look-up of it here would recurse.
        if name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Calls the closure, then updates every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        before = self._sample()
        if self.rounding is Rounding.nearest:
            self.inner.step()
        else:
            self._rounded_step()
        pairs = list(zip(before, self._sample(), strict=True))
        same, count = sum(int((a == b).sum()) for a, b in pairs), sum(a.numel() for a, _ in pairs)
        if any(is_sharded(p) for group in self.param_groups for p in group["params"]):
            # Each process compared its own part; the share is that of all parts.
            both = torch.tensor([same, count], device=pairs[0][0].device)
            torch.distributed.all_reduce(both)
            same, count = map(int, both)
        self.unchanged = same / max(count, 1)
        return loss

    @torch.no_grad()
    def _rounded_step(self) -> None:
        groups = self.param_groups
        generators: dict[torch.device, torch.Generator] = {}
        for group in groups:
            shared: dict[str, Any] = {}
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                device = parameter.device
                if device not in generators:
                    generators[device] = torch.Generator(device).manual_seed(self.seed * 1_000_003 + groups[0][COUNT])
                # The inner optimizer sees a group of one parameter, so that only one float32 copy exists at a time.
                alone = {**group, "params": [parameter]}
                self.inner.param_groups = [alone]
                self._one(parameter, generators[device])
                shared = {k: v for k, v in alone.items() if k != "params"}
            group.update(shared)  # counters that the optimizer keeps per group
        # The real groups again; counters of the temporary ones were copied back above.
        self.inner.param_groups = groups
        groups[0][COUNT] += 1

    def _one(self, parameter: Tensor, generator: torch.Generator) -> None:
        low, gradient, state = parameter.data, parameter.grad, self.state[parameter]
        assert gradient is not None
        # The optimizer sees float32 weights and gradients; the bf16 tensors are put back at the end.
        wide = low.float()
        lost = state.pop(LOST, None)
        if lost is not None:
            wide += lost.float()
        parameter.grad = None
        parameter.data = wide
        parameter.grad = gradient.float()
        widen(state)
        self.inner.step()
        new = parameter.data
        parameter.grad = None
        if self.rounding is Rounding.kahan:
            low.copy_(new)
            # Kahan: what rounding to nearest lost is added to the next step.
            state[LOST] = (new - low.float()).bfloat16()
        else:
            low.copy_(round_stochastically(new, generator))
        parameter.data = low
        parameter.grad = gradient
        for name, value in state.items():
            if name != LOST and isinstance(value, Tensor) and value.dtype == torch.float32 and value.ndim > 0:
                state[name] = round_stochastically(value, generator)

    def _sample(self) -> list[Tensor]:
        live = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        # Every stride-th weight, about SAMPLE of all, the same ones before and after the step.
        stride = max(1, sum(p.numel() for p in live) // SAMPLE)
        return [get_local(p).flatten()[::stride].clone() for p in live]

    def _share(self) -> None:
        self.param_groups, self.state = self.inner.param_groups, self.inner.state

    def state_dict(self) -> dict[str, Any]:
        """Returns the inner optimizer's state."""
        return self.inner.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads the inner optimizer's state, then shares groups and state with it again."""
        self.inner.load_state_dict(state_dict)
        self._share()


def widen(state: dict[str, Any]) -> None:
    """Converts the state's bf16 tensors to float32, in place."""
    for name, value in state.items():
        if isinstance(value, Tensor) and value.dtype == torch.bfloat16:
            state[name] = value.float()
