"""Parts of tensors: whole on the first process for a checkpoint, and back on any number of processes."""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import Any

import torch
from tests.strategy.together import run_together
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from fulgurite.checkpoint.shards import gather_whole, get_local, is_sharded, split_state, take_part

WHOLE = torch.arange(15.0).view(5, 3)


def connect() -> Any:
    torch.distributed.init_process_group("gloo", rank=int(os.environ["RANK"]), world_size=int(os.environ["WORLD_SIZE"]))
    return init_device_mesh("cpu", (int(os.environ["WORLD_SIZE"]),))


def gather() -> Any:
    part = distribute_tensor(WHOLE, connect(), [Shard(0)])
    assert is_sharded(part)
    state = OrderedDict(a={"step": torch.tensor(3.0), "mean": part}, b=[part * 2, 7, "text"], c=None)
    found = gather_whole(state, keep=os.environ["RANK"] == "0")
    assert type(found) is OrderedDict
    return found, get_local(part).shape[0]


def test_the_first_process_gets_whole_tensors_and_the_others_none() -> None:
    (first, rows), (second, fewer) = run_together(2, gather)
    assert (rows, fewer) == (3, 2)
    assert torch.equal(first["a"]["mean"], WHOLE)
    assert torch.equal(first["b"][0], 2 * WHOLE)
    assert first["b"][1:] == second["b"][1:] == [7, "text"]
    assert (second["a"]["mean"], second["b"][0], second["c"]) == (None, None, None)
    assert float(first["a"]["step"]) == float(second["a"]["step"]) == 3.0  # a count is no part of anything


def split() -> list[Tensor]:
    parameter = distribute_tensor(torch.zeros(5, 3), connect(), [Shard(0)])
    saved = {"step": torch.tensor(3.0), "mean": WHOLE, "rows": WHOLE[:, :1], "all": torch.ones(1), "name": 1}
    state = split_state(saved, parameter)
    assert torch.equal(get_local(state["rows"]), get_local(state["mean"])[:, :1])
    assert is_sharded(state["all"])
    assert torch.equal(get_local(state["all"]), saved["all"])
    assert not is_sharded(state["step"])
    assert state["name"] == 1
    assert torch.equal(take_part(WHOLE, parameter).full_tensor(), WHOLE)  # type: ignore[attr-defined]
    return [get_local(state["mean"]), state["step"]]


def test_each_process_takes_its_part_of_a_parameters_state() -> None:
    for count in (2, 3):
        found = run_together(count, split)
        assert torch.equal(torch.cat([mean for mean, _ in found]), WHOLE)
        assert all(float(step) == 3.0 for _, step in found)


def test_tensors_that_are_not_distributed_stay_as_they_are() -> None:
    tensor = torch.ones(2, requires_grad=True)
    assert not is_sharded(tensor)
    assert not is_sharded("text")
    assert take_part(tensor, tensor) is tensor
    assert not get_local(tensor).requires_grad
    assert gather_whole({"a": (tensor, 1)}, keep=False)["a"][0] is tensor
