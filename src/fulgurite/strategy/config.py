"""How the devices of a run share its work."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fulgurite.config.schema import Derived, Option, option
from fulgurite.language.message import UserMessage, message

if TYPE_CHECKING:
    from fulgurite.config.run import RunConfig

MOST_A_CORE = 8
"""Processes for each core of a machine: more are a typing error, on a machine with GPUs too (ours)."""
ON_A_CPU = 2
"""Processes of `ddp` on a machine without a GPU: the fewest that share a step."""


@dataclass(slots=True)
class Strategy(Option):
    """What every strategy declares: what it builds, how many devices it takes, and what it refuses."""

    replicates: ClassVar[bool] = True
    """Whether each process holds the whole model, its gradients and its optimizer state."""

    def default_devices(self, run: RunConfig) -> Derived:
        """Returns the devices of a machine to use if neither `trainer.devices` nor a launcher gives their number."""
        raise NotImplementedError

    def decision(self, run: RunConfig) -> UserMessage:
        """Returns what the strategy decided for this run and why, in one line; empty if there was nothing to decide."""
        return UserMessage()

    def find_refusal(self, run: RunConfig) -> str | UserMessage | None:
        """Refuses more processes than a machine can run."""
        devices, cores = run.trainer.devices or 1, available()
        if devices <= MOST_A_CORE * cores:
            return None
        return message(
            "trainer.devices={devices} is more than {most} for each of this machine's {cores} cores; "
            "use trainer.devices={best}.",
            devices=devices, most=MOST_A_CORE, cores=cores, best=max(2, cores),
        )


@option("strategy", "auto")
@dataclass(slots=True)
class AutoStrategy(Strategy):
    """One device, the GPU if there is one; ddp if more are asked for, or a launcher started several processes."""

    builds: ClassVar[str] = "fulgurite.strategy.build:build_auto"
    costs: ClassVar[str] = "Nothing with one device; with more the costs of ddp."

    def default_devices(self, run: RunConfig) -> Derived:
        """Returns 1."""
        return Derived(1, "one device; strategy=ddp takes every GPU of the machine")

    def decision(self, run: RunConfig) -> UserMessage:
        """Returns that ddp is used, if there are several processes."""
        if run.world_size == 1:
            return UserMessage()
        return message(
            "strategy=auto uses ddp: {processes} processes share each step, each with a copy of the model",
            processes=run.world_size,
        )


@option("strategy", "ddp")
@dataclass(slots=True)
class Ddp(Strategy):
    """torch's DistributedDataParallel: each device has a whole copy of the model and takes a share of each step."""

    builds: ClassVar[str] = "fulgurite.strategy.build:build_ddp"
    costs: ClassVar[str] = "A copy of the model for each process, and one exchange of gradients for each step."
    misread: ClassVar[str] = (
        "It does not make a model fit that does not fit on one device, and it does not change "
        "trainer.global_batch_size: each process takes a share of it."
    )

    def default_devices(self, run: RunConfig) -> Derived:
        """Returns every GPU of the machine, or two processes on a CPU."""
        if run.trainer.accelerator != "cpu":
            count: int = importlib.import_module("torch.cuda").device_count()  # heavy; only if nobody gave a number
            if count:
                return Derived(count, message("all GPUs of this machine ({count})", count=count))
        return Derived(ON_A_CPU, "two processes, the fewest that share a step, because no GPU is used")


def available() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
