"""Tensors of which each process has a part (torch's DTensor): to whole tensors for a checkpoint, and back."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fulgurite.checkpoint.stored import StoredTensor
from fulgurite.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class TensorPart:
    """Consecutive rows of a tensor; other processes have the others."""

    rows: Tensor
    start: int
    shape: tuple[int, ...]
    """The shape of the whole tensor."""


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

    def gather(tensor: Any) -> Any:
        # With offloading, the parts are on the CPU and the connection between the processes is that of the GPUs.
        whole = tensor.detach().to(tensor.device_mesh.device_type).full_tensor()
        return whole.cpu() if keep else None

    return _replace_sharded(value, gather)


def cut_parts(value: Any) -> Any:
    """Returns the same tree with a TensorPart, of this process's rows, in place of each distributed tensor.

    A number is gathered; nothing else is sent. Of copies (hybrid sharding) only the first has rows. Raises
    CheckpointError for a tensor that is not divided by rows.
    """

    def cut(tensor: Any) -> Any:
        if not tensor.ndim:
            return tensor.full_tensor()
        start, stop = locate_rows(tensor, tensor.shape[0])
        rows = get_local(tensor)
        if len(rows) != stop - start:
            raise CheckpointError(
                "A process has {found} rows of a tensor of {rows}, and {expected} were expected; use "
                "strategy.shard_checkpoint_gb=1e9, which gathers whole tensors.",
                found=len(rows), rows=tensor.shape[0], expected=stop - start,
            )
        return TensorPart(rows if _is_first_copy(tensor) else rows[:0], start, tuple(tensor.shape))

    return _replace_sharded(value, cut)


def _replace_sharded(value: Any, replace: Callable[[Any], Any]) -> Any:
    if is_sharded(value):
        return replace(value)
    if isinstance(value, Mapping):
        pairs = ((key, _replace_sharded(item, replace)) for key, item in value.items())
        return type(value)(pairs)  # type: ignore[call-arg]
    if type(value) in (list, tuple):
        return type(value)(_replace_sharded(item, replace) for item in value)
    return value


def measure_whole(value: Any) -> int:
    """Returns the bytes of the distributed tensors in a tree, all parts together; the same in every process."""
    sizes: list[int] = []

    def add(tensor: Any) -> None:
        sizes.append(tensor.numel() * tensor.element_size())

    _replace_sharded(value, add)
    return sum(sizes)


def locate_rows(like: Any, rows: int) -> tuple[int, int]:
    """Returns the first row of this process, and the end of its rows, in a tensor of `rows` rows that is distributed
    as `like` is. Raises CheckpointError if it is not divided by rows."""
    start, stop = 0, rows
    for dimension, placement in enumerate(like.placements):
        if placement.is_replicate():
            continue
        # Rows that are divided over two dimensions of the mesh are refused too: no strategy here makes them.
        if not placement.is_shard(0) or (start, stop) != (0, rows):
            raise CheckpointError(
                "A tensor is distributed by {placement}, and a checkpoint of parts needs rows; use strategy=ddp.",
                placement=str(placement),
            )
        # as torch.chunk divides: equal parts, rounded up, so that the last processes may have fewer rows, or none
        size = -(-rows // like.device_mesh.size(dimension))
        start = min(like.device_mesh.get_local_rank(dimension) * size, rows)
        stop = min(start + size, rows)
    return start, stop


def _is_first_copy(tensor: Any) -> bool:
    copies = [n for n, placement in enumerate(tensor.placements) if placement.is_replicate()]
    return all(tensor.device_mesh.get_local_rank(n) == 0 for n in copies)


@torch.no_grad()
def take_part(whole: Tensor | StoredTensor, like: Tensor, everywhere: bool = False) -> Tensor:
    """Returns this process's part of `whole` as a tensor that is distributed as `like` is. Sends nothing.

    Of a tensor in a file only the part is read. `everywhere`: each process keeps all of it.
    """
    if is_sharded(whole):
        return whole  # type: ignore[return-value]
    if not is_sharded(like):
        return whole.read() if isinstance(whole, StoredTensor) else whole
    from torch.distributed.tensor import DTensor, Replicate

    spread: Any = like
    start, stop = (0, whole.shape[0]) if everywhere else locate_rows(spread, whole.shape[0])
    placements = [Replicate()] * len(spread.placements) if everywhere else spread.placements
    local = _read_rows(whole, start, stop).to(get_local(like).device)
    # The stride of a contiguous tensor of the whole shape; the meta device needs no memory for it.
    stride = torch.empty(whole.shape, device="meta").stride()
    found: Tensor = DTensor.from_local(
        local, spread.device_mesh, placements, run_check=False, shape=torch.Size(whole.shape), stride=stride
    )
    return found


def _read_rows(whole: Tensor | StoredTensor, start: int, stop: int) -> Tensor:
    """Returns some rows in memory of their own."""
    return whole.read(start, stop) if isinstance(whole, StoredTensor) else whole[start:stop].clone()


def split_state(state: Mapping[str, Any], parameter: Tensor) -> dict[str, Any]:
    """Returns an optimizer's state of one parameter with the parts of this process in place of whole tensors.

    What has a number for each of the parameter's rows is distributed as the parameter is, and what has one for all of
    them is kept everywhere. A count of steps is no tensor of the parameter and stays as it is.
    """
    found = dict(state)
    for name, value in state.items():
        if isinstance(value, Tensor | StoredTensor) and value.ndim:
            found[name] = take_part(value, parameter, everywhere=value.shape[:1] != parameter.shape[:1])
    return found
