"""Several optimizers as one: the same steps as each alone, one list of groups and one state, also once restored."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW

from fulgurite.optim.multi_optimizer import MultiOptimizer


def build_parameters() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(1)
    return [nn.Parameter(torch.randn(3, 2, generator=generator)) for _ in range(3)]


def build_multi(parameters: list[nn.Parameter]) -> MultiOptimizer:
    """SGD of the first parameter, AdamW of the two others in groups of their own."""
    groups = [{"params": [parameters[1]], "lr": 0.1}, {"params": [parameters[2]], "lr": 0.2}]
    return MultiOptimizer([SGD([parameters[0]], lr=0.5, momentum=0.9), AdamW(groups)])


def set_gradients(parameters: list[nn.Parameter], step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for parameter in parameters:
        parameter.grad = torch.randn(3, 2, generator=generator)


def test_steps_equal_those_of_each_optimizer_alone() -> None:
    ours, theirs = build_parameters(), build_parameters()
    multi = build_multi(ours)
    sgd = SGD([theirs[0]], lr=0.5, momentum=0.9)
    adamw = AdamW([{"params": [theirs[1]], "lr": 0.1}, {"params": [theirs[2]], "lr": 0.2}])
    for step in range(3):
        set_gradients(ours, step)
        set_gradients(theirs, step)
        multi.step()
        sgd.step()
        adamw.step()
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_groups_and_state_are_one_list_that_the_parts_read() -> None:
    parameters = build_parameters()
    multi = build_multi(parameters)
    assert [group["lr"] for group in multi.param_groups] == [0.5, 0.1, 0.2]
    before = [p.detach().clone() for p in parameters]
    for group in multi.param_groups[:2]:
        group["lr"] = 0.0  # as a schedule sets it
    set_gradients(parameters, 0)
    multi.step()
    assert [torch.equal(a, b) for a, b in zip(before, parameters, strict=True)] == [True, True, False]
    assert set(multi.state) == set(parameters)
    assert multi.parts[0].state is multi.parts[1].state is multi.state


def test_restored_it_goes_on_bit_for_bit() -> None:
    whole, first = build_parameters(), build_parameters()
    uncut, early = build_multi(whole), build_multi(first)
    for step in range(2):
        for parameters, optimizer in ((whole, uncut), (first, early)):
            set_gradients(parameters, step)
            optimizer.step()
    late = build_multi(first)
    late.load_state_dict(copy.deepcopy(early.state_dict()))
    for parameters, optimizer in ((whole, uncut), (first, late)):
        set_gradients(parameters, 2)
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(whole, first, strict=True))


def test_the_closures_loss_is_returned_with_gradients_enabled() -> None:
    parameters = build_parameters()
    multi = build_multi(parameters)

    def closure() -> torch.Tensor:
        loss = torch.stack([p.square().sum() for p in parameters]).sum()
        loss.backward()
        return loss

    expected = sum(float(p.detach().square().sum()) for p in parameters)
    with torch.no_grad():
        found = multi.step(closure)
    assert found.item() == pytest.approx(expected)
