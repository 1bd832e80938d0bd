"""Distributing a module: names, gradients, factors of rates, groups, turns."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from tests.strategy.together import run_together
from torch import nn

from fulgurite.checkpoint.shards import get_local, is_sharded
from fulgurite.errors import ConfigError
from fulgurite.optim.param_groups import get_rate_scale, scale_rate
from fulgurite.strategy.config import Fsdp
from fulgurite.strategy.sharding import build_sharder, check_types, reshard


def build_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))


def look_at_names() -> None:
    net = build_net()
    before = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    scale_rate(net[0].weight, 4.0)
    build_sharder(Fsdp(), 1, 1, "cpu").shard(net, [net[0]])
    after = dict(net.named_parameters())
    assert after.keys() == before.keys()
    assert all(is_sharded(parameter) for parameter in after.values())
    assert all(torch.equal(get_local(after[name]), tensor) for name, tensor in before.items())
    assert [get_rate_scale(parameter) for parameter in after.values()] == [4.0, 1.0, 1.0, 1.0]


def test_names_and_what_hangs_on_a_parameter_stay() -> None:
    run_together(1, look_at_names)


def pass_without_gradients() -> None:
    net = build_net()
    build_sharder(Fsdp(), 1, 1, "cpu").shard(net, [net[0]])
    with torch.no_grad():
        net(torch.zeros(1, 3))
    assert not all(is_sharded(parameter) for parameter in net.parameters())  # the root keeps what it has gathered
    reshard(net)
    assert all(is_sharded(parameter) for parameter in net.parameters())


def test_a_pass_without_gradients_is_freed() -> None:
    run_together(1, pass_without_gradients)


def test_trained_weights_of_two_types_are_refused() -> None:
    net = build_net()
    net[2].to(torch.bfloat16)
    with pytest.raises(ConfigError, match=r"0\.weight is float32 and 2\.weight is bfloat16; use precision=fp32"):
        check_types(net)
    net[2].requires_grad_(False)  # frozen weights may have another
    check_types(net)


def shard_together(**knobs: Any) -> Any:
    sharder = build_sharder(Fsdp(**knobs), 2, 1, "cpu")
    net = build_net()
    sharder.shard(net, [net[0]])
    net(torch.ones(2, 3)).sum().backward()
    gradients = {name: p.grad.full_tensor() for name, p in net.named_parameters()}  # type: ignore[union-attr]
    return gradients, get_local(net[0].weight).shape[0]


@pytest.mark.parametrize(("knobs", "rows"), [
    ({}, [3, 2]), ({"reshard": False}, [3, 2]), ({"offload": True}, [3, 2]), ({"hybrid": 1}, [5, 5]),
    ({"hybrid": 2}, [3, 2]),
], ids=str)
def test_gradients_are_those_of_one_process(knobs: dict[str, Any], rows: list[int]) -> None:
    net = build_net()
    net(torch.ones(2, 3)).sum().backward()
    found = run_together(2, lambda: shard_together(**knobs))
    assert [held for _, held in found] == rows
    for gradients, _ in found:
        for name, parameter in net.named_parameters():
            torch.testing.assert_close(gradients[name], parameter.grad)


def take_turn() -> tuple[float, float]:
    sharder = build_sharder(Fsdp(), 2, 1, "cpu")
    with sharder.take_turn():
        begun = time.monotonic()
        sum(range(300_000))
        return begun, time.monotonic()


def test_one_process_after_the_other_has_a_whole_model() -> None:
    first, second = run_together(2, take_turn)
    assert first[1] <= second[0]
