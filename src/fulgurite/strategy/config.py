"""How the devices of a run share its work."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fulgurite.config.schema import Derived, Empty, Option, at_least, has_declared, knob, option
from fulgurite.language.message import UserMessage, message
from fulgurite.precision.config import Rounding

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


def take_every_device(accelerator: str) -> Derived:
    """Returns every GPU of the machine, or two processes on a CPU."""
    if accelerator != "cpu":
        count: int = importlib.import_module("torch.cuda").device_count()  # heavy; only if nobody gave a number
        if count:
            return Derived(count, message("all GPUs of this machine ({count})", count=count))
    return Derived(ON_A_CPU, "two processes, the fewest that share a step, because no GPU is used")


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
        return take_every_device(run.trainer.accelerator)


@option("strategy", "fsdp")
@dataclass(slots=True)
class Fsdp(Strategy):
    """torch's FSDP2: each device holds a part of the weights, the gradients and the optimizer state, and gathers one
    layer at a time. For models that do not fit on one device.

    The results are those of one device. So is the checkpoint folder, up to `strategy.shard_checkpoint_gb`; a larger
    checkpoint is divided among the processes. Both forms can be exported, used by chat, and resumed on another number
    of devices (`resume.allow=[trainer.devices]`).
    """

    builds: ClassVar[str] = "fulgurite.strategy.fsdp:build_fsdp"
    replicates: ClassVar[bool] = False
    costs: ClassVar[str] = (
        "About 1.5 times the traffic of ddp between the devices, because each layer's weights are gathered in both "
        "passes; slower than ddp if the model fits on one device."
    )
    misread: ClassVar[str] = (
        "It divides weights, gradients and optimizer state, not activations: for those, lower "
        "trainer.micro_batch_size or data.max_length."
    )

    reshard: bool = knob(
        True,
        "Free the gathered weights of a layer after its forward pass, and gather them again for its backward pass "
        "(ZeRO-3). If false, they are kept until the backward pass (ZeRO-2).",
        source="FSDP, Zhao et al., https://arxiv.org/abs/2304.11277; ZeRO, Rajbhandari et al., "
        "https://arxiv.org/abs/1910.02054; torch docs, fully_shard(reshard_after_forward=...)",
        advice="true; false if all weights in their compute type fit on a device beside the activations.",
        interacts={"strategy.offload": "frees more memory, and costs more time"},
        memory="false keeps a copy of all weights between the two passes.",
        time="false sends a third less.",
        misread="It does not change results.",
    )
    offload: bool = knob(
        False,
        "Keep the weights, the gradients and the optimizer state in CPU memory, and update the weights there.",
        source="torch docs, CPUOffloadPolicy; ZeRO-Offload, Ren et al., https://arxiv.org/abs/2101.06840",
        advice="Only if memory is short with all GPUs that there are, and method=lora is not enough.",
        interacts={"trainer.devices": "more devices hold smaller parts, which need no offloading"},
        memory="A GPU holds gathered layers and activations alone.",
        time="Each step copies weights to the GPU and gradients back, and a CPU updates the weights.",
        misread="On a CPU it changes nothing: the parts are in CPU memory already.",
    )
    hybrid: int | None = knob(
        None,
        "Number of processes that hold one model together; groups of this many processes hold copies of each other "
        "(hybrid sharding).",
        source="FSDP, Zhao et al., https://arxiv.org/abs/2304.11277, hybrid sharding; torch docs, fully_shard with a "
        "mesh of two dimensions",
        bounds=at_least(1), usual=(2, 4, 8),
        advice="The number of devices of one machine, if there are several machines and one of them holds the model.",
        empty=Empty("all processes hold one model together"),
        raise_when="If the model does not fit on the devices of a group.",
        lower_when="If the network between machines slows the steps: to the number of devices of one machine.",
        interacts={"trainer.num_nodes": "it helps if there are several machines"},
        memory="Each device holds this fraction of the model: a smaller group needs more memory.",
        time="Layers are gathered inside a group alone.",
    )
    activation_checkpointing: bool = knob(
        False,
        "Recompute the activations of each layer in the backward pass instead of storing them.",
        source="Chen et al., https://arxiv.org/abs/1604.06174",
        advice="true if memory is short at a micro-batch size of 1: sharding does not divide activations.",
        interacts={"trainer.gradient_checkpointing": "the same for every strategy; one of the two is enough"},
        memory="Stores the input of each layer, and the activations of one layer instead of all.",
        time="About a third more.",
        misread="It does not change results.",
    )
    shard_checkpoint_gb: float = knob(
        10.0,
        "Size of a checkpoint in GB above which each process writes what it holds to files of its own. A smaller one "
        "is gathered and written by the first process.",
        source="Ours: the first process needs memory for the whole checkpoint, and the others wait while it writes; 10 "
        "GB take some ten seconds on a disk of 1 GB a second, and are full fine-tuning of about 0.8 billion "
        "parameters with AdamW in fp32.",
        bounds=at_least(0.0), usual=(5.0, 10.0, 50.0),
        advice="Leave it, unless the machine of the first process has less memory than three copies of the model.",
        raise_when="If tools of your own read the checkpoint's single files, and the first process has the memory.",
        lower_when="If the first process runs out of memory while it saves: 0 divides every checkpoint.",
        interacts={"trainer.save_every": "how often it is written"},
        memory="Up to it, the first process holds the whole checkpoint in CPU memory while it saves; above it, none "
        "holds more than its own parts.",
        time="Above it, all processes write at the same time.",
        misread="It does not change results: export, chat and resume.run read both forms, on any number of devices.",
    )

    def default_devices(self, run: RunConfig) -> Derived:
        """Returns every GPU of the machine, or two processes on a CPU."""
        return take_every_device(run.trainer.accelerator)

    def decision(self, run: RunConfig) -> UserMessage:
        """Returns how many processes hold a model together."""
        return message(
            "strategy=fsdp: each of {processes} processes holds 1/{parts} of the weights, gradients and optimizer "
            "state",
            processes=run.world_size, parts=self.hybrid or run.world_size,
        )

    def find_refusal(self, run: RunConfig) -> str | UserMessage | None:
        """Refuses groups that the processes do not fill, and what has not been proven on a part of each weight."""
        return (
            Strategy.find_refusal(self, run) or self._refuse_groups(run.world_size) or _refuse_option(run)
            or _refuse_precision(run) or _refuse_setting(run)
        )

    def _refuse_groups(self, processes: int) -> UserMessage | None:
        if self.hybrid is None or processes % self.hybrid == 0:
            return None
        return message(
            "strategy.hybrid={size} does not divide the {processes} processes of this run into equal groups; use "
            "strategy.hybrid={best}, or leave it out.",
            size=self.hybrid, processes=processes,
            best=max(n for n in range(1, min(self.hybrid, processes) + 1) if processes % n == 0),
        )


PROVEN = {"optim": "optim=adamw", "method": "method=lora", "stage": "stage=sft"}
"""An option of each group that works on parts of the weights, as a remedy."""


def _refuse_option(run: RunConfig) -> UserMessage | None:
    """Returns why an option needs whole weights; None if all work on parts of them."""
    for chosen in (run.optim, run.method, run.stage):
        if not has_declared(chosen, "works_on_shards"):
            return message(
                "strategy=fsdp gives each process a part of every weight, and {group}={name} is not proven to work "
                "with parts; use {remedy}, or strategy=ddp.",
                group=chosen.room, name=chosen.name, remedy=PROVEN[chosen.room],
            )
    return None


def _refuse_precision(run: RunConfig) -> UserMessage | None:
    """Returns why the compute type needs whole weights; None if it does not."""
    if run.precision.step_rounding() not in (None, Rounding.nearest):
        return message(
            "precision.rounding={rounding} does not work with strategy=fsdp, which gives each process a part of every "
            "weight; use precision.rounding=nearest, precision=bf16, or strategy=ddp.",
            rounding=run.precision.step_rounding(),
        )
    if run.precision.scales_loss:
        return message(
            "precision={name} does not work with strategy=fsdp, whose processes would scale their losses differently; "
            "use precision=bf16, or strategy=ddp.",
            name=run.precision.name,
        )
    return None


def _refuse_setting(run: RunConfig) -> UserMessage | None:
    """Returns why a setting needs whole weights; None if there is none."""
    settings = {
        f"privacy={run.privacy.name}": (run.private, "privacy=none"),
        "trainer.compile=true": (run.trainer.compile, "trainer.compile=false"),
        "lr_finder.enabled=true": (run.lr_finder.enabled, "lr_finder.enabled=false"),
    }
    for setting, (is_set, remedy) in settings.items():
        if is_set:
            return message(
                "strategy=fsdp gives each process a part of every weight, and {setting} is not proven to work with "
                "parts; use {remedy}, or strategy=auto with one device.",
                setting=setting, remedy=remedy,
            )
    return None


def available() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
