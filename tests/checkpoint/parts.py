"""A checkpoint of two tensors that several processes have parts of, and write together."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

from fulgurite.checkpoint.io import FolderCheckpointIO
from fulgurite.checkpoint.peers import Peers
from fulgurite.checkpoint.shards import cut_parts

WEIGHT, BIAS = torch.arange(15.0).view(5, 3), torch.tensor([7.0])
"""Five rows, which no number of processes but one and five divides, and a single row."""


def connect(groups: int = 1) -> DeviceMesh:
    """Connects the processes; `groups` are copies of each other."""
    size = int(os.environ["WORLD_SIZE"])
    torch.distributed.init_process_group("gloo", rank=int(os.environ["RANK"]), world_size=size)
    return init_device_mesh("cpu", (groups, size // groups), mesh_dim_names=("copies", "parts"))


def spread(whole: Tensor, mesh: DeviceMesh) -> Tensor:
    """The tensor, divided by rows inside each group."""
    return distribute_tensor(whole, mesh, [Replicate(), Shard(0)])


def build_peers() -> Peers:
    """The connected processes."""
    return Peers(SimpleNamespace(
        global_rank=torch.distributed.get_rank(), world_size=torch.distributed.get_world_size(),
        root_device=torch.device("cpu"), all_gather=gather,
    ))  # type: ignore[arg-type]


def gather(tensor: Tensor) -> Tensor:
    """What Lightning's strategies return."""
    found = [torch.zeros_like(tensor) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(found, tensor)
    return torch.stack(found)


def build_tree(weight: Tensor, bias: Tensor, step: int) -> dict[str, Any]:
    """What Lightning hands to a checkpoint's writer, with an optimizer's state."""
    state = {0: {"step": torch.tensor(3.0), "exp_avg": weight + step}, 1: {"exp_avg": bias * step}}
    return {
        "state_dict": {"weight": weight, "bias": bias}, "optimizer_states": [{"state": state, "param_groups": [1e-3]}],
        "random": [torch.arange(4)], "step": step,
    }


def save_together(place: Path, step: int = 1, groups: int = 1) -> None:
    """Saves the tree into `place`, in each of the connected processes."""
    mesh = connect(groups)
    tree = build_tree(spread(WEIGHT, mesh), spread(BIAS, mesh), step)
    FolderCheckpointIO().save_parts(cut_parts(tree), place / f"step-{step}", build_peers())
