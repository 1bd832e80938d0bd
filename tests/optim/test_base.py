"""Our base of optimizers: state keeps the dtype it was saved in, and every optimizer has a test of its formula."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD

from fulgurite.config.run import load_options
from fulgurite.config.schema import list_options
from fulgurite.optim.base import ExactOptimizer, keep_dtypes


class Counting(ExactOptimizer):
    """Subtracts the gradient, and keeps its float32 sum."""

    def move(
        self, parameter: nn.Parameter, gradient: Tensor, state: dict[str, Any], group: dict[str, Any], number: int
    ) -> None:
        state["sum"] = state.get("sum", torch.zeros(parameter.shape)) + gradient.float()
        state["number"] = number
        parameter.sub_(gradient, alpha=group["lr"])


def build_counting(*parameters: nn.Parameter) -> Counting:
    return Counting(list(parameters), {"lr": 0.5, "weight_decay": 0.25})


def test_every_optimizer_has_a_test_file() -> None:
    load_options()
    files = {path.stem.removeprefix("test_") for path in Path(__file__).parent.glob("test_*.py")}
    assert set(list_options("optim")) - files == {"paged_adamw_8bit"}  # beside adamw_8bit
    assert len(list_options("optim")) == 12


def test_a_step_decays_then_moves_and_counts_only_parameters_with_gradients() -> None:
    moved, frozen, late = (nn.Parameter(torch.full((2,), 8.0)) for _ in range(3))
    optimizer = build_counting(moved, frozen, late)
    moved.grad = torch.ones(2)
    optimizer.step()
    late.grad = torch.ones(2)
    optimizer.step()
    # 8 x (1 - 0.5 x 0.25) - 0.5 = 6.5, then 6.5 x 0.875 - 0.5
    assert moved.tolist() == [5.1875] * 2
    assert late.tolist() == [6.5] * 2
    assert frozen.tolist() == [8.0] * 2
    assert [optimizer.state[p]["taken"] for p in (moved, late)] == [2, 1]
    assert [optimizer.state[p]["number"] for p in (moved, late)] == [0, 2]
    assert frozen not in optimizer.state


def test_float32_state_of_bf16_weights_is_restored_exactly_which_torch_rounds() -> None:
    weight = nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
    optimizer = build_counting(weight)
    for value in (1.0, 2.0**-10):  # their sum has more digits than bf16
        weight.grad = torch.full_like(weight, value)
        optimizer.step()
    saved = copy.deepcopy(optimizer.state_dict())
    exact = torch.full((2,), 1 + 2.0**-10)
    restored = build_counting(weight)
    restored.load_state_dict(saved)
    assert restored.state[weight]["sum"].dtype == torch.float32
    assert torch.equal(restored.state[weight]["sum"], exact)
    assert restored.state[weight]["taken"] == 2

    plain = SGD([weight], lr=0.5)
    plain.load_state_dict({**saved, "param_groups": plain.state_dict()["param_groups"]})
    assert torch.equal(plain.state[weight]["sum"].float(), torch.ones(2))  # torch's own, in the parameter's dtype
    keep_dtypes(plain, saved)
    assert torch.equal(plain.state[weight]["sum"], exact)
    assert plain.state[weight]["sum"].data_ptr() != saved["state"][0]["sum"].data_ptr()


def test_the_closure_is_called_with_gradients_enabled_and_its_loss_returned() -> None:
    weight = nn.Parameter(torch.ones(1))
    optimizer = build_counting(weight)

    def closure() -> Tensor:
        loss = (3 * weight).sum()
        loss.backward()
        return loss

    with torch.no_grad():
        loss = optimizer.step(closure)
    assert loss.item() == 3.0
    assert weight.tolist() == [1 - 0.125 - 1.5]
