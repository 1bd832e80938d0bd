"""How long a run trains, its batch sizes, its devices, and how often it evaluates and saves."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fulgurite.config.confidence import Sure
from fulgurite.config.described import DescribedEnum
from fulgurite.config.schema import Derived, Empty, Option, Range, above, at_least, between, knob, option
from fulgurite.language.message import message
from fulgurite.strategy.ranks import Starter, describe_starter, read_ranks

if TYPE_CHECKING:
    from fulgurite.config.facts import Facts
    from fulgurite.config.run import RunConfig

TOKENS_PER_MICRO_BATCH = {"cpu": 1024, "cuda": 8192}
"""Tokens of a micro-batch above which the device is no faster: measured on two CPU cores; a safe start for a GPU
(ours)."""
WHOLE_MODEL = {"cpu": 512}
"""The same if every weight is trained: such a run runs out of memory before the device is busy (ours)."""
ROW_BYTES = 2e9
"""The most bytes that per-example gradients of a micro-batch may take under privacy (ours)."""
ENOUGH_STEPS = 200
"""A small data set gets smaller batches until the run has enough steps, but not below `Stage.fewest` examples
(ours)."""


class Accelerator(DescribedEnum):
    """The kind of device that a run computes on."""

    auto = "auto", "A GPU if there is one, else the CPU."
    cpu = "cpu", "The CPU, even if there is a GPU."
    cuda = "cuda", "An NVIDIA GPU; refused if there is none."


class Profiler(DescribedEnum):
    """The profiler of a run."""

    none = "none", "No profile."
    simple = "simple", "Lightning's table of the time that each hook took."
    advanced = "advanced", "Python's profile of every function; slows the run down."


class Clip(DescribedEnum):
    """How gradients are clipped."""

    norm = "norm", "Scales the whole gradient down to trainer.max_grad_norm; its direction stays."
    value = (  # type: ignore[assignment]  # StrEnum has an attribute of this name
        "value", "Limits each number of the gradient to ±trainer.max_grad_norm; its direction changes.",
    )


def _batch_size(run: RunConfig, facts: Facts) -> Derived:
    if run.data.packing == "best_fit":
        return Derived(8, "a packed row contains several examples (ours)")
    usual, why = 16, message("LoRA learns worse with large batches (QLoRA 16; TRL's LoRA guide: below 32)")
    if run.method.kin == "full":
        usual, why = 64, message("full fine-tuning works with large batches (Tülu 3 128, DPO paper 64)")
    if run.private:
        size = max(1, min(4 * usual, facts.rows // 4))
        return Derived(
            size,
            message(
                "four times the usual {usual}, at most a quarter of {count} examples: the noise of a step is divided "
                "by its examples",
                usual=usual, count=facts.rows,
            ),
        )
    if (declared := run.stage.recommend_batch_size()) is not None:
        usual, why = declared.value, declared.reason
    # halved until the run has ENOUGH_STEPS: a handful of large steps learns less than many small ones
    seen = facts.rows * run.trainer.epochs * run.stage.count_steps_per_rollout()
    size, fewest = usual, run.stage.fewest
    while size > fewest and seen / size < ENOUGH_STEPS:
        size //= 2
    if size < usual:
        why = message(
            "smaller than the usual {usual}, because {count} examples would make only a few steps",
            usual=usual, count=facts.rows,
        )
        return Derived(size, why)
    return Derived(usual, why)


def _micro_batch(run: RunConfig, facts: Facts) -> Derived:
    # As many examples as fit into the token budget of the device, but no more than this process's share of a step.
    tokens = TOKENS_PER_MICRO_BATCH | WHOLE_MODEL if run.method.kin == "full" else TOKENS_PER_MICRO_BATCH
    budget = tokens.get(facts.device, 512)
    share = -(-run.stage.count_examples_per_step(run.trainer.global_batch_size) // facts.processes)
    sides = run.stage.sides
    answers = run.stage.max_new_tokens if run.stage.rolls_out else 0
    rows = max(1, min(share, budget // max(run.data.max_length * sides + answers, 1)))
    size = run.model.billions() or 7.0
    if run.private and run.method.whole and (most := max(1, int(ROW_BYTES / (4e9 * size)))) < rows:
        why = message(
            "under privacy each example has a gradient of its own, {size:.2g} GB for this model", size=4 * size
        )
        return Derived(most, why)
    return Derived(
        rows,
        message(
            "targets about {budget} tokens per micro-batch on this {device}; does not change results",
            budget=budget, device="GPU" if facts.device == "cuda" else "CPU",
        ),
    )


def _epochs(run: RunConfig, facts: Facts) -> Derived:
    found: Derived = run.stage.usual_epochs
    return found


def _devices(run: RunConfig, facts: Facts) -> Derived:
    ranks = read_ranks(os.environ)
    if ranks.starter is not Starter.command:
        why = message(
            "{starter} started {count} processes on each machine",
            starter=describe_starter(ranks.starter), count=ranks.local_world_size,
        )
        return Derived(ranks.local_world_size, why)
    if run.launcher.is_remote:
        return Derived(1, "one device for each machine, because the machines are not known here")
    found: Derived = run.strategy.default_devices(run)
    return found


def _nodes(run: RunConfig, facts: Facts) -> Derived:
    ranks = read_ranks(os.environ)
    if ranks.starter is not Starter.command:
        why = message(
            "{starter} started processes on {count} machines",
            starter=describe_starter(ranks.starter), count=ranks.num_nodes,
        )
        return Derived(ranks.num_nodes, why)
    return Derived(1, "one machine")


def _share(parts: int, word: str) -> Empty:
    def rule(run: RunConfig, facts: Facts) -> Derived:
        why = message("1/{parts} of the run's {steps} steps, rounded up", parts=parts, steps=facts.total_steps)
        return Derived(max(1, -(-facts.total_steps // parts)), why)

    return Empty(f"a {word} of the run's steps", rule, "steps")


@option("trainer", "default")
@dataclass(slots=True)
class Trainer(Option):
    """Lightning's Trainer: the same loop for one device and for many."""

    builds: ClassVar[str] = "fulgurite.trainer.build:build"
    costs: ClassVar[str] = "Nothing."

    accelerator: Accelerator = knob(
        Accelerator.auto, "The kind of device: auto uses the GPU if there is one, else the CPU.",
        source="Lightning docs, Trainer(accelerator=...)",
        advice="auto. cpu keeps the run off a GPU that others use; cuda refuses to start on a machine without a GPU.",
        interacts={"precision": "auto chooses the compute type by the device"},
    )
    devices: int | None = knob(
        None, "Number of devices of each machine that share a step, with one process each.",
        source="Lightning docs, Trainer(devices=...)",
        bounds=at_least(1), usual=(1, 2, 4, 8),
        advice="One per GPU. On a CPU one per socket: two processes on two cores are slower than one.",
        empty=Empty(
            "1 under strategy=auto; under ddp and fsdp every GPU, or 2 on a CPU; under torchrun or srun the number "
            "that they started",
            _devices
        ),
        raise_when="When more GPUs, or more sockets, are free.",
        lower_when="When cores are shared, or the copies of the model do not fit in memory.",
        interacts={
            "strategy": "how the devices share the work",
            "trainer.num_nodes": "devices times machines is the number of processes",
            "trainer.global_batch_size": "each device takes a share of it; the number does not change results",
        },
        memory="Under ddp each process has a copy of the model, under fsdp a part of it.",
        time="On GPUs a step is nearly that many times faster.",
        misread="It is a number of devices, not a list of their ids: CUDA_VISIBLE_DEVICES selects the devices.",
    )
    num_nodes: int | None = knob(
        None, "Number of machines, each with trainer.devices devices.",
        source="Lightning docs, Trainer(num_nodes=...)",
        bounds=at_least(1), usual=(1, 2, 4),
        advice="Leave it empty under torchrun and srun. Without them run the command on each machine with NODE_RANK, "
        "MASTER_ADDR and MASTER_PORT in the environment.",
        empty=Empty("1, or the number that torchrun or srun started", _nodes),
        raise_when="When the GPUs of one machine take too long.",
        lower_when="When the network between the machines slows each step.",
        interacts={
            "run_dir": "must be on a file system that all machines share",
            "trainer.devices": "the devices of each machine",
        },
        time="On a fast network a step is nearly that many times faster.",
    )

    global_batch_size: int | None = knob(
        None,
        "Effective batch size: examples per optimizer step over all devices (with packing rows; in dpo and rm pairs; "
        "in ppo and grpo prompts per rollout).",
        source="TRL's LoRA guide below 32, QLoRA 16, Tülu 3 128, DPO paper 64 (verified)",
        bounds=at_least(1), usual=(8, 16, 32, 64, 128),
        advice="Aim for 200 steps or more.",
        empty=Empty(
            "8 packed rows; 64 pairs, 32 KTO examples; 64 prompts in ppo, 8 in grpo; "
            "else 64 for full fine-tuning, 16 for other methods; down to 8 if the data set is small",
            _batch_size, "data",
        ),
        raise_when="For a smoother loss, with full fine-tuning, under privacy, or in preference training.",
        lower_when="To get more steps from a small data set, and with LoRA, which learns worse with large batches.",
        interacts={
            "optim.lr": "a larger batch allows a larger rate, about by its square root",
            "trainer.micro_batch_size": "gradient accumulation reaches the batch size in micro-batches",
            "trainer.epochs": "examples × epochs / batch size is the number of steps",
        },
        time="An epoch takes nearly the same time, in fewer steps.",
        misread="It costs no memory; trainer.micro_batch_size does. It counts all devices and the accumulation.",
    )
    micro_batch_size: int | None = knob(
        None, "Examples per forward pass. It costs memory and does not change results.",
        source="Tülu 3 sums the loss so that accumulation is exact; here it always is",
        bounds=at_least(1), usual=(1, 2, 4, 8, 16),
        advice="Leave it empty, unless memory runs out or the device is idle.",
        empty=Empty(
            "enough to keep the device busy: about 1024 tokens on a CPU (512 if every weight is trained), "
            "8192 on a GPU",
            _micro_batch, "steps",
        ),
        sure=Sure.verified,
        raise_when="When the device is idle.", lower_when="When memory runs out.",
        interacts={
            "data.max_length": "both set the size of the stored activations",
            "trainer.gradient_checkpointing": "leaves memory for a larger one",
        },
        memory="Activations grow in proportion.", time="Larger is faster until the device is busy.",
    )
    epochs: float | None = knob(
        None, "Number of passes over the training data.",
        source="Zephyr 1, Tülu 3 2 then 1, SmolLM2 2, Unsloth 1 to 3 (verified)",
        bounds=above(0, 1_000_000), usual=between(1, 3),
        advice="More than 3 memorises: the training loss falls in stairs, one per epoch.",
        empty=Empty("2 in supervised fine-tuning, 1 in other stages", _epochs),
        raise_when="Below 5,000 examples: 3. More epochs, not a higher rate, make up for too few steps.",
        lower_when="When the validation loss rises, or above 100,000 examples: 1.",
        interacts={
            "trainer.max_steps": "overrides the number of epochs", "method.dropout": "useful with several epochs",
        },
        time="In proportion.",
    )
    max_steps: int | None = knob(
        None, "Number of optimizer steps, in place of trainer.epochs; the data are repeated as needed.",
        source="Common practice", bounds=at_least(1), usual=Range(1, 10_000), advice="Use it for short trial runs.",
        empty=Empty("no limit; trainer.epochs decides"),
        raise_when="When the loss still falls at the end.", lower_when="To see that everything works: 20.",
        interacts={
            "trainer.epochs": "ignored if max_steps is set", "scheduler.warmup_ratio": "a share of these steps",
        },
        time="In proportion.",
    )
    max_grad_norm: float = knob(
        1.0, "Gradient clipping: a gradient with a larger norm is scaled down to this norm; 0 turns clipping off.",
        source="HF 1.0, QLoRA 0.3, SmolLM3 0.2, TR-DPO 2 (verified); clipping: https://arxiv.org/abs/1211.5063",
        bounds=at_least(0), usual=between(0.2, 10),
        advice="Keep 1; tune the learning rate first.",
        raise_when="With optim=sgd, when more than half of the steps are clipped after the warmup: with SGD clipping "
        "lowers the effective learning rate.",
        lower_when="When single batches make the loss spike: 0.3.",
        interacts={
            "optim.lr": "clipping does not limit the step: Adam undoes a constant scale",
            "privacy.max_grad_norm": "replaces it under dp_sgd",
        },
        misread="The logged norm is the one before clipping: a logged 5 with a limit of 1 does not mean that clipping "
        "failed.",
    )
    clip_algorithm: Clip = knob(
        Clip.norm, "Clip by the norm of the whole gradient, or each entry by its value.",
        source="Lightning's gradient_clip_algorithm",
        advice="Keep norm: clipping by value changes the direction of the step.",
        interacts={"trainer.max_grad_norm": "the limit"},
    )
    eval_every: int | None = knob(
        None, "Optimizer steps between two evaluations.", source="Ours; LLaMA-Factory's form: 100 steps",
        bounds=at_least(1), usual=Range(1, 1000), advice="Five or more evaluations per run show the trend.",
        empty=_share(5, "fifth"),
        raise_when="When evaluations take a noticeable share of the time.",
        lower_when="To detect over-fitting earlier.",
        interacts={
            "data.val_fraction": "the validation set", "scheduler.patience": "counts evaluations",
            "trainer.early_stopping_patience": "counts evaluations",
        },
        time="Each evaluation is a pass over the validation set.",
    )
    early_stopping_patience: int | None = knob(
        None,
        "Early stopping: end the run after this many evaluations in a row without a lower val/loss.",
        source="Ours; Lightning's EarlyStopping waits for 3 evaluations (verified)",
        bounds=at_least(1), usual=between(2, 10),
        advice="3, if the run has ten evaluations or more. The best checkpoint is kept in any case.",
        empty=Empty("off: the run goes on to its end"),
        raise_when="When the validation loss is noisy.", lower_when="When time is short and over-fitting comes early.",
        interacts={
            "trainer.eval_every": "it counts evaluations: with five evaluations a patience of 5 has no effect",
            "data.val_fraction": "must be above 0", "trainer.epochs": "becomes the longest that the run may take",
            "scheduler.patience": "must be smaller: a lowered rate needs some evaluations to show its effect",
        },
        time="A run that no longer improves ends earlier.",
        misread="It counts evaluations, not optimizer steps. Schedules fall towards the planned end of the run, "
        "not towards the early one.",
    )
    save_every: int | None = knob(
        None, "Optimizer steps between two checkpoints.", source="Ours; LLaMA-Factory's form: 100 steps",
        bounds=at_least(1), usual=Range(1, 1000), advice="A killed run loses at most this many steps.",
        empty=_share(10, "tenth"),
        raise_when="When writing checkpoints takes a noticeable share of the time.",
        lower_when="If the machine may stop at any time.",
        interacts={"trainer.keep_checkpoints": "the number of checkpoints that are kept"},
        time="Each writes the trained weights and the optimizer state.",
    )
    keep_checkpoints: int = knob(
        2, "Number of newest checkpoints to keep, in addition to the best.",
        source="Arithmetic: a full 7B checkpoint is 84 GB", bounds=at_least(1), usual=between(1, 5),
        advice="2 is enough to resume after a crash.",
        sure=Sure.ours,
        raise_when="To choose among several checkpoints afterwards.", lower_when="When the disk is small: 1.",
        memory="Disk: each contains the trained weights and the optimizer state.",
    )
    log_every: int = knob(
        1, "Optimizer steps between two rows of metrics.jsonl.", source="Ours",
        bounds=at_least(1), usual=(1, 10), advice="A row is about 200 bytes.",
        raise_when="In runs of many thousand steps: 10.", lower_when="To see every step: 1.",
    )
    gradient_checkpointing: bool = knob(
        False,
        "Recompute each layer's activations in the backward pass instead of storing them: "
        "less memory, about a third more time.",
        source="Chen et al., https://arxiv.org/abs/1604.06174; LLaMA-Factory has it on by default (verified)",
        advice="On when memory runs out at a micro-batch size of 1. It does not change results.",
        interacts={"trainer.micro_batch_size": "can be larger then"},
        memory="Stores the input of each layer, and the activations of one layer instead of all.",
        time="About a third more.",
    )
    compile: bool = knob(
        False, "Compile the model's layers with torch.compile (inductor).",
        source="torch docs, torch.compile; measured on a CPU: 22 % less time a step, and minutes of compiling at each "
        "new length",
        advice="Only for long runs with packing; the first steps take minutes.",
        interacts={"data.packing": "all rows have one length, which is compiled once"},
        time="Minutes at the start and at each new length; then about a fifth less per step.",
    )
    num_workers: int = knob(
        0, "Number of extra processes that prepare batches.", source="torch docs, DataLoader",
        bounds=at_least(0), usual=(0, 2, 4),
        advice="0: the data are already tokenised, and reading them takes almost no time.",
        raise_when="When the log reports that training waits for data.",
        lower_when="When memory or processes are scarce: 0 is no slower for tokenised data.",
        memory="Each is a process of its own.",
    )
    profiler: Profiler = knob(
        Profiler.none,
        "Lightning's profiler: simple times each hook of the loop, advanced each Python function.",
        source="Lightning docs, Trainer(profiler=...)",
        advice="simple, over 20 steps, when a run is slower than `fulgurite plan --probe` expects; "
        "read fit-profile.txt in the run folder.",
        interacts={"trainer.max_steps": "20 are enough for a profile"},
        time="simple costs almost nothing; advanced slows each step.",
    )
    detect_anomaly: bool = knob(
        False, "Report the operation of the forward pass whose gradient is NaN.",
        source="torch docs, torch.autograd.set_detect_anomaly; Lightning docs, Trainer(detect_anomaly=...)",
        advice="Only to find the origin of a gradient that is not finite.",
        time="Each step takes several times longer.",
    )
    deterministic: bool = knob(
        False,
        "Use only algorithms that give the same bits each time; operations that have none raise an error.",
        source="torch docs, torch.use_deterministic_algorithms; Lightning docs, Trainer(deterministic=...)",
        advice="On a GPU, if two runs must agree bit for bit. On a CPU runs with the same seed agree without it.",
        interacts={
            "seed": "must be the same too", "trainer.benchmark": "may choose another algorithm in each run",
        },
        time="Some operations are slower on a GPU.",
    )
    benchmark: bool = knob(
        False, "Let cuDNN try its algorithms for each new shape and keep the fastest.",
        source="torch docs, torch.backends.cudnn.benchmark; Lightning docs, Trainer(benchmark=...)",
        advice="Leave it off: language models have no convolutions, and each length would be tried again.",
        interacts={"trainer.deterministic": "may choose another algorithm in each run"},
    )
    enable_model_summary: bool = knob(
        False, "Print Lightning's table of the model's modules and their parameters before the first step.",
        source="Lightning docs, Trainer(enable_model_summary=...)",
        advice="On to see which modules train; the first lines of every run show their number.",
    )
