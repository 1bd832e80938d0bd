"""Tensors of which each process has a part (torch's DTensor): to whole tensors for a checkpoint, and back."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def is_sharded(value: Any) -> bool:
    """Returns whether `value` is a tensor that is distributed over processes."""
    module: Any = sys.modules.get("torch.distributed.tensor")  # heavy; nothing is distributed before it is loaded
    return module is not None and isinstance(value, module.DTensor)


def get_local(tensor: Tensor) -> Tensor:
    """Returns this process's part of a distributed tensor, without a gradient; any other tensor as it is, detached."""
    found: Any = tensor.detach()
    return found.to_local() if is_sharded(found) else found  # type: ignore[no-any-return]


def gather_whole(value: Any, keep: bool) -> Any:
    """Returns a tree of dicts, lists and values with whole tensors, on the CPU, in place of distributed ones.

    Every process must call it with the same tree. Tensors are gathered one after the other, so that no process holds a
    second model; a process that does not `keep` them gets None in their places.
    """
    if is_sharded(value):
        # With offloading, the parts are on the CPU and the connection between the processes is that of the GPUs.
        whole = value.detach().to(value.device_mesh.device_type).full_tensor()
        return whole.cpu() if keep else None
    if isinstance(value, Mapping):
        return type(value)((key, gather_whole(item, keep)) for key, item in value.items())  # type: ignore[call-arg]
    if type(value) in (list, tuple):
        return type(value)(gather_whole(item, keep) for item in value)
    return value


@torch.no_grad()
def take_part(whole: Tensor, like: Tensor, everywhere: bool = False) -> Tensor:
    """Returns this process's part of `whole` as a tensor that is distributed as `like` is. Sends nothing.

    `everywhere`: each process keeps all of it.
    """
    if not is_sharded(like) or is_sharded(whole):
        return whole
    from torch.distributed.tensor import Replicate, distribute_tensor

    spread: Any = like
    mesh, placements = spread.device_mesh, spread.placements
    if everywhere:
        placements = [Replicate()] * len(placements)
    found: Tensor = distribute_tensor(whole.to(mesh.device_type), mesh, placements, src_data_rank=None)
    return found.to(like.device)


def split_state(state: Mapping[str, Any], parameter: Tensor) -> dict[str, Any]:
    """Returns an optimizer's state of one parameter with the parts of this process in place of whole tensors.

    What has a number for each of the parameter's rows is distributed as the parameter is, and what has one for all of
    them is kept everywhere. A count of steps is no tensor of the parameter and stays as it is.
    """
    found = dict(state)
    for name, value in state.items():
        if isinstance(value, Tensor) and value.ndim:
            found[name] = take_part(value, parameter, everywhere=value.shape[:1] != parameter.shape[:1])
    return found
