"""Lightning's strategies and cluster environments for a run."""

from __future__ import annotations

import atexit
import os
from datetime import timedelta
from typing import Any

import torch
from lightning.pytorch.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning.pytorch.strategies import DDPStrategy

from fulgurite.config.schema import Option
from fulgurite.strategy.ranks import Ranks, Starter, check_started, settle

PATIENCE = timedelta(minutes=30)
"""How long a process waits for the others at the end of a step: longer than the first one writes
a checkpoint or samples."""

COMMUTING = 2
"""The most processes whose sum does not depend on the order of its terms."""


def build_auto(config: Option, processes: int) -> Any:
    """Returns Lightning's strategy for a single device, or ddp if the run has several processes."""
    return build_ddp(config, processes) if processes > 1 else "auto"


def build_ddp(config: Option, processes: int) -> DDPStrategy:
    """Returns Lightning's DDP: one process for each device, each with a whole copy of the model.

    With more than two processes torch looks for unused parameters, only so that it does not order its buckets anew
    after the first step of a process: three numbers have another sum in another order, and a resumed run would differ
    in the last bit.
    """
    return DDPStrategy(timeout=PATIENCE, find_unused_parameters=processes > COMMUTING)


def cluster_environment(ranks: Ranks) -> ClusterEnvironment:
    """Returns Lightning's object for the program that started the processes.

    The Trainer always gets one: otherwise Lightning reads ranks from the variables of a Slurm job even if our command
    started the processes, and requeues jobs with a pickled checkpoint of its own.
    """
    if ranks.starter is Starter.torchrun:
        return TorchElasticEnvironment()
    if ranks.starter is Starter.slurm:
        return SLURMEnvironment(auto_requeue=False)
    return LightningEnvironment()


def join_processes(devices: int | None, num_nodes: int | None, device: str) -> Ranks:
    """Returns the ranks of this process, and makes its GPU the current one. Raises ConfigError if other processes were
    started than the run asks for."""
    ranks = settle()
    check_started(devices or 1, num_nodes or 1, ranks)
    if device == "cuda":
        torch.cuda.set_device(ranks.local_rank)  # from here on "cuda" is this one
    return ranks


def share_text(text: str, ranks: Ranks, device: str) -> str:
    """Returns the `text` of the first process, in all processes. Connects them if they are not connected yet."""
    if ranks.world_size == 1:
        return text
    connect(ranks, device)
    shared = [text]
    torch.distributed.broadcast_object_list(shared, src=0, device=torch.device(device))
    return shared[0]


def connect(ranks: Ranks, device: str) -> None:
    """Connects the processes of the run, if they are not connected yet."""
    if torch.distributed.is_initialized():
        return
    # with GPUs also the CPUs, for weights that are kept there (strategy.offload)
    backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
    if ranks.world_size == 1:
        # A store in memory, because a single process needs neither an address nor a port.
        store = torch.distributed.HashStore()  # type: ignore[attr-defined]
        torch.distributed.init_process_group(backend, store=store, rank=0, world_size=1, timeout=PATIENCE)
    else:
        environment = cluster_environment(ranks)
        os.environ |= {"MASTER_ADDR": environment.main_address, "MASTER_PORT": str(environment.main_port)}
        torch.distributed.init_process_group(
            backend, rank=ranks.rank, world_size=ranks.world_size, timeout=PATIENCE
        )
    atexit.register(_disconnect)


def _disconnect() -> None:
    """Destroys the process group at exit."""
    # The threads of a group that is not destroyed abort the process when it ends.
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
