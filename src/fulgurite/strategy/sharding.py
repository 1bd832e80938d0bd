"""Distributes the parameters of modules over processes with torch's `fully_shard` (FSDP2).

Torch wraps nothing: each module keeps its names, and its parameters become DTensors, which are gathered for its own
forward and backward pass alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, fully_shard, register_fsdp_forward_method

from fulgurite.errors import ConfigError
from fulgurite.strategy.build import connect, join_processes
from fulgurite.strategy.config import Fsdp
from fulgurite.strategy.ranks import Ranks


@dataclass(frozen=True, slots=True)
class Sharder:
    """Distributes modules over the processes of `mesh`."""

    mesh: DeviceMesh
    ranks: Ranks
    reshard: bool
    offload: bool

    @contextlib.contextmanager
    def take_turn(self) -> Iterator[None]:
        """Runs the block in one process of this machine after the other.

        A model that is loaded and sharded inside it is whole in one process at a time, so that a machine needs memory
        for one copy, not for one in each process.
        """
        # Process k of n passes k barriers before the block and n - k after it: n in all, and one is inside at a time.
        for _ in range(self.ranks.local_rank):
            torch.distributed.barrier()
        yield
        for _ in range(self.ranks.local_world_size - self.ranks.local_rank):
            torch.distributed.barrier()

    def shard(self, root: nn.Module, units: Iterable[nn.Module], methods: Iterable[str] = ()) -> None:
        """Distributes all parameters of `root`: those of each unit are gathered together, the others with the root.

        `methods` are the root's methods that compute with its parameters, beside `forward`; each is a forward pass.
        Raises ConfigError if trained parameters of several types would have to be gathered together.
        """
        check_types(root)
        trained = any(parameter.requires_grad for parameter in root.parameters())
        # `fully_shard` replaces the Parameters, and attributes of the old ones would be lost.
        kept = {name: dict(vars(p)) for name, p in root.named_parameters() if type(p) is nn.Parameter}
        how: dict[str, Any] = {"mesh": self.mesh}
        if self.offload:
            how["offload_policy"] = CPUOffloadPolicy(pin_memory=self.mesh.device_type == "cuda")
        for unit in units:
            fully_shard(unit, reshard_after_forward=self.reshard, **how)
        # The backward pass of a trained root follows at once: torch keeps its parameters. A frozen one frees them.
        fully_shard(root, reshard_after_forward=(None if self.reshard else False) if trained else True, **how)
        sharded: Any = root
        if trained and hasattr(sharded, "set_reduce_scatter_unused_params"):  # since torch 2.13
            # A micro-batch may leave a weight without a gradient in one process, such as the head if it has no label.
            sharded.set_reduce_scatter_unused_params(True)
        for name in methods:
            register_fsdp_forward_method(root, name)
        for name, parameter in root.named_parameters():
            vars(parameter).update(kept.get(name, {}))  # such as the factor of its learning rate


def check_types(root: nn.Module) -> None:
    """Raises ConfigError if the trained parameters have several dtypes: torch reduces those of a unit together."""
    found: dict[torch.dtype, str] = {}
    for name, parameter in root.named_parameters():
        if parameter.requires_grad:
            found.setdefault(parameter.dtype, name)
    if len(found) > 1:
        (first, one), (second, other) = list(found.items())[:2]
        raise ConfigError(
            "strategy=fsdp gathers trained weights of one type together, but {one} is {first} and {other} is {second}; "
            "use precision=fp32, or strategy=ddp.",
            one=one, first=str(first).removeprefix("torch."), other=other, second=str(second).removeprefix("torch."),
        )


def reshard(root: nn.Module) -> None:
    """Frees what a forward pass without a backward pass has gathered: every parameter is this process's part again."""
    for module in root.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def build_sharder(config: Fsdp, devices: int | None, num_nodes: int | None, device: str) -> Sharder:
    """Connects the processes of the run and arranges them in groups, each of which has one whole model."""
    ranks = join_processes(devices, num_nodes, device)
    connect(ranks, device)
    size = ranks.world_size
    if config.hybrid is None:
        mesh = init_device_mesh(device, (size,), mesh_dim_names=("shard",))
    else:
        shape = (size // config.hybrid, config.hybrid)
        mesh = init_device_mesh(device, shape, mesh_dim_names=("replicate", "shard"))
    return Sharder(mesh, ranks, config.reshard, config.offload)
