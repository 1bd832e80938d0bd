"""The place of this process among those of the run (rank, local rank, node rank, world size), for each way of
starting a run.

A run has several processes if one of these started them:

- our command, which starts one process for each device of its machine (`train/launcher.py`),
- torchrun, or whatever else sets RANK and WORLD_SIZE (Ray Train, Kubeflow, accelerate launch),
- Slurm, by `srun`.

`settle` reads the environment before torch is loaded and completes it, so that the modules below find RANK. Imports
nothing heavy.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from enum import StrEnum

from fulgurite.errors import ConfigError
from fulgurite.language.message import UserMessage, message
from fulgurite.strategy.config import available

TORCH = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "NODE_RANK", "GROUP_RANK")
"""The variables that torch's launchers set, all of them whole numbers."""
SLURM = ("SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_NNODES")
"""The variables that `srun` sets for each task."""
INTERACTIVE = ("bash", "interactive")
"""Names of Slurm jobs that are shells, in which Lightning does not use Slurm's variables either."""
STARTED_BY = "FULGURITE_STARTED_BY"
"""The environment variable by which a process knows that a remote launcher (slurm, ray) started it."""
ADDRESS = ("MASTER_ADDR", "MASTER_PORT")


class Starter(StrEnum):
    """Who started the processes of a run."""

    command = "fulgurite"
    """Nobody yet: this process is alone, and starts the others if there are to be any."""
    launcher = "a launcher"
    torchrun = "torchrun"
    slurm = "srun"


@dataclass(frozen=True, slots=True)
class Ranks:
    """The place of this process among those of the run. Ranks count from 0."""

    starter: Starter = Starter.command
    rank: int = 0
    local_rank: int = 0
    node_rank: int = 0
    world_size: int = 1
    local_world_size: int = 1

    @property
    def num_nodes(self) -> int:
        """The number of machines."""
        return self.world_size // self.local_world_size


def read_ranks(environment: Mapping[str, str]) -> Ranks:
    """Returns the ranks that `environment` gives.

    Raises ConfigError if they contradict each other, or a value is not a number.
    """
    found = _numbers(environment, TORCH)
    # torchrun's variables win over Slurm's, for torchrun may run inside a Slurm job; those of other launchers do not.
    torch_ranks = _from_torch(found, "TORCHELASTIC_RUN_ID" in environment) if "RANK" in found else None
    slurm_ranks = _from_slurm(environment)
    if torch_ranks is not None and torch_ranks.starter is Starter.torchrun:
        chosen = torch_ranks
    elif slurm_ranks is not None and (torch_ranks is None or _same_place(torch_ranks, slurm_ranks)):
        chosen = slurm_ranks  # settled before, so RANK is set too
    else:
        chosen = torch_ranks or _alone(found)
    if chosen.rank >= chosen.world_size:
        raise ConfigError(
            "RANK={rank} and WORLD_SIZE={size} in the environment contradict each other: ranks count from 0. Launchers "
            "set both, so unset them here.",
            rank=chosen.rank, size=chosen.world_size,
        )
    if chosen.world_size % chosen.local_world_size:
        raise ConfigError(
            "{starter} started {processes} processes, {local} of them on this machine; start the "
            "same number on every machine.",
            starter=describe_starter(chosen.starter), processes=chosen.world_size, local=chosen.local_world_size,
        )
    # A process that is alone keeps NODE_RANK only: our command may start its share of several machines.
    return chosen if chosen.world_size > 1 else Ranks(node_rank=_alone(found).node_rank)


def settle(environment: MutableMapping[str, str] = os.environ) -> Ranks:
    """Returns the ranks of this process; completes `environment` so that RANK, LOCAL_RANK, WORLD_SIZE and NODE_RANK
    fit them.

    A process that is alone drops a RANK that a shell has left: it would compute only a share of each step. Raises
    ConfigError.
    """
    for name in (*TORCH, *SLURM):
        if environment.get(name) == "":
            del environment[name]
    ranks = read_ranks(environment)
    if ranks.starter is Starter.command:
        for name in ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
            environment.pop(name, None)
        return ranks
    environment.update({
        "RANK": str(ranks.rank), "LOCAL_RANK": str(ranks.local_rank), "WORLD_SIZE": str(ranks.world_size),
        "LOCAL_WORLD_SIZE": str(ranks.local_world_size), "NODE_RANK": str(ranks.node_rank),
    })
    if ranks.starter is Starter.slurm:
        environment.setdefault("SLURM_NTASKS_PER_NODE", str(ranks.local_world_size))  # Lightning asks for it
    threads = environment.get("SLURM_CPUS_PER_TASK", "")
    environment.setdefault(
        "OMP_NUM_THREADS", threads if threads.isdecimal() else str(max(1, available() // ranks.local_world_size))
    )
    return ranks


def is_started(environment: Mapping[str, str]) -> bool:
    """Returns whether a launcher has started this process, so that it is one of the run's and starts none elsewhere."""
    return STARTED_BY in environment or read_ranks(environment).starter is not Starter.command


def check_started(devices: int, num_nodes: int, ranks: Ranks) -> None:
    """Raises ConfigError if other processes were started than `trainer.devices` and `trainer.num_nodes` ask for."""
    if ranks.starter is Starter.command:
        if devices * num_nodes > 1:
            raise ConfigError(
                "This run needs {processes} processes, and only this one was started; start it by `fulgurite train`, "
                "torchrun or srun.",
                processes=devices * num_nodes,
            )
        return
    if (devices, num_nodes) != (ranks.local_world_size, ranks.num_nodes):
        raise ConfigError(
            "trainer.devices={devices} and trainer.num_nodes={num_nodes} do not fit what {starter} started: "
            "{local} processes on each of {nodes} machines; leave both out, or set "
            "trainer.devices={local} trainer.num_nodes={nodes}.",
            devices=devices, num_nodes=num_nodes, starter=describe_starter(ranks.starter),
            local=ranks.local_world_size, nodes=ranks.num_nodes,
        )


def describe_starter(starter: Starter) -> UserMessage | str:
    """Returns the name of the program that started the processes, for sentences."""
    return message("a launcher") if starter is Starter.launcher else str(starter)


def refuse_several(world_size: int) -> None:
    """Raises ConfigError for a multirun whose runs have several processes."""
    if world_size > 1:
        raise ConfigError(
            "-m does not support runs of several processes (this one has {processes}), because their ranks would train "
            "different trials; start one run for each value instead.",
            processes=world_size,
        )


def check_nodes(devices: int, num_nodes: int, ranks: Ranks, environment: Mapping[str, str]) -> None:
    """Raises ConfigError if our command is to start its share of a run over several machines and the environment
    lacks its place among them."""
    if num_nodes == 1:
        return
    missing = [name for name in ("NODE_RANK", *ADDRESS) if name not in environment]
    if missing:
        raise ConfigError(
            "trainer.num_nodes={num_nodes} needs {missing} in the environment: run the same command on each "
            "machine with its NODE_RANK (0 to {last}) and the address and a free port of the first, or use "
            "torchrun or srun.",
            num_nodes=num_nodes, missing=", ".join(missing), last=num_nodes - 1,
        )
    if ranks.node_rank >= num_nodes:
        raise ConfigError(
            "NODE_RANK={node_rank} is too large for trainer.num_nodes={num_nodes}: the machines count from 0.",
            node_rank=ranks.node_rank, num_nodes=num_nodes,
        )
    size = _numbers(environment, ("WORLD_SIZE",)).get("WORLD_SIZE", devices * num_nodes)
    if size != devices * num_nodes:
        raise ConfigError(
            "WORLD_SIZE={size} in the environment contradicts trainer.devices={devices} and "
            "trainer.num_nodes={num_nodes}; unset WORLD_SIZE.",
            size=size, devices=devices, num_nodes=num_nodes,
        )


def _numbers(environment: Mapping[str, str], names: tuple[str, ...]) -> dict[str, int]:
    """Returns the variables of `names` that are set, as numbers. Raises ConfigError if one is not a whole number."""
    found = {}
    for name in names:
        value = environment.get(name, "")
        if value and not value.isdecimal():
            raise ConfigError(
                "{name}={value} in the environment is not a whole number; launchers set it, so unset {name} here.",
                name=name, value=value,
            )
        if value:
            found[name] = int(value)
    return found


def _from_torch(found: Mapping[str, int], is_torchrun: bool) -> Ranks | None:
    """Returns the ranks that torchrun or a similar launcher has set; None for a RANK without a WORLD_SIZE, which a
    shell has left."""
    if "WORLD_SIZE" not in found:
        return None
    rank, size = found["RANK"], max(1, found["WORLD_SIZE"])
    # Without LOCAL_RANK each process is alone on its machine, as in Kubeflow's jobs.
    local_size = max(1, found.get("LOCAL_WORLD_SIZE", size if "LOCAL_RANK" in found else 1))
    node = found.get("NODE_RANK", found.get("GROUP_RANK", rank // local_size))
    starter = Starter.torchrun if is_torchrun else Starter.launcher
    return Ranks(starter, rank, found.get("LOCAL_RANK", 0), node, size, local_size)


def _from_slurm(environment: Mapping[str, str]) -> Ranks | None:
    """Returns the ranks that `srun` has set for this task; None outside of Slurm, in a job's shell, and in a job of one
    task."""
    if environment.get("SLURM_JOB_NAME") in INTERACTIVE:
        return None
    found = _numbers(environment, SLURM)
    size = found.get("SLURM_NTASKS", 1)
    if size == 1 or "SLURM_PROCID" not in found:
        return None
    if environment.get("ENVIRONMENT") == "BATCH" and "SLURM_STEP_ID" not in environment:
        raise ConfigError(
            "This Slurm job has {tasks} tasks, but its script starts the command only once: write srun before it, or "
            "request one task.",
            tasks=size,
        )
    # "4(x2)" is Slurm's form of 4 tasks on each of 2 nodes
    each = re.match(
        r"\d+", environment.get("SLURM_NTASKS_PER_NODE", "") or environment.get("SLURM_STEP_TASKS_PER_NODE", "")
    )
    local_size = int(each[0]) if each else max(1, size // found.get("SLURM_NNODES", 1))
    rank = found["SLURM_PROCID"]
    local_rank, node = found.get("SLURM_LOCALID", rank % local_size), found.get("SLURM_NODEID", rank // local_size)
    return Ranks(Starter.slurm, rank, local_rank, node, size, local_size)


def _alone(found: Mapping[str, int]) -> Ranks:
    """Returns the ranks of a process that no launcher started.

    Raises ConfigError if a WORLD_SIZE is set to which it could belong.
    """
    if found.get("WORLD_SIZE", 1) > 1 and "NODE_RANK" not in found:
        raise ConfigError(
            "WORLD_SIZE={size} is set in the environment without RANK; launchers set both, so unset "
            "WORLD_SIZE here (trainer.devices={size} makes `fulgurite train` start that many processes).",
            size=found["WORLD_SIZE"],
        )
    return Ranks(node_rank=found.get("NODE_RANK", 0))


def _same_place(one: Ranks, other: Ranks) -> bool:
    return (one.rank, one.world_size) == (other.rank, other.world_size)
