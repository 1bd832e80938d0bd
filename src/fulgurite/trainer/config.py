"""How long, in what portions, on which devices, and how often to look."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from fulgurite.config.confidence import Sure
from fulgurite.config.schema import Derived, Empty, Option, Range, above, at_least, between, knob, option
from fulgurite.strategy.ranks import Starter, read_ranks

if TYPE_CHECKING:
    from fulgurite.config.facts import Facts
    from fulgurite.config.run import RunConfig

TOKENS_PER_MICRO_BATCH = {"cpu": 1024, "cuda": 8192}
"""Where larger micro-batches stop paying: measured on two CPU cores; on a GPU a safe start (ours)."""

WHOLE_MODEL = {"cpu": 512}
"""The same where every weight is trained: such a run is short of memory before it is short of work (ours)."""


ROW_BYTES = 2e9
"""What the gradients of a micro-batch's rows may hold where each has its own: ours, for memory."""

ENOUGH_STEPS = 200
"""A small data set gets smaller batches until the run has enough steps, but not below
`Stage.fewest` examples (ours)."""


class Accelerator(StrEnum):
    """The kind of device that a run computes on."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Profiler(StrEnum):
    """What measures where the time of a run goes."""

    none = "none"
    simple = "simple"
    advanced = "advanced"


class Clip(StrEnum):
    """How gradients are clipped."""

    norm = "norm"
    value = "value"


def _batch_size(run: RunConfig, facts: Facts) -> Derived:
    if run.data.packing == "best_fit":
        return Derived(8, "a packed row holds several examples (ours)")
    usual, why = 16, "LoRA suffers from large batches (QLoRA 16; TRL's LoRA guide: below 32)"
    if run.method.kin == "full":
        usual, why = 64, "full fine-tuning bears large batches (Tülu 3 128, DPO paper 64)"
    if run.private:
        size = max(1, min(4 * usual, facts.rows // 4))
        return Derived(
            size,
            f"four times the usual {usual}, at most a quarter of {facts.rows} rows: "
            "a step's noise is shared by its rows",
        )
    if (declared := run.stage.recommend_batch_size()) is not None:
        usual, why = declared.value, declared.reason
    seen = facts.rows * run.trainer.epochs * run.stage.count_steps_per_rollout()
    size, fewest = usual, run.stage.fewest
    while size > fewest and seen / size < ENOUGH_STEPS:
        size //= 2
    if size < usual:
        return Derived(
            size, f"smaller than the usual {usual}, because {facts.rows} examples would make few steps of them"
        )
    return Derived(usual, why)


def _micro_batch(run: RunConfig, facts: Facts) -> Derived:
    tokens = TOKENS_PER_MICRO_BATCH | WHOLE_MODEL if run.method.kin == "full" else TOKENS_PER_MICRO_BATCH
    budget = tokens.get(facts.device, 512)
    share = -(-run.stage.count_examples_per_step(run.trainer.global_batch_size) // facts.processes)
    sides = run.stage.sides
    answers = run.stage.max_new_tokens if run.stage.rolls_out else 0
    rows = max(1, min(share, budget // max(run.data.max_length * sides + answers, 1)))
    size = run.model.billions() or 7.0
    if run.private and run.method.whole and (most := max(1, int(ROW_BYTES / (4e9 * size)))) < rows:
        return Derived(most, f"under privacy each row has a gradient of its own, {4 * size:.2g} GB for this model")
    return Derived(
        rows,
        f"about {budget} tokens at a time keep this {facts.device} busy; the mathematics is the same for every value",
    )


def _epochs(run: RunConfig, facts: Facts) -> Derived:
    found: Derived = run.stage.usual_epochs
    return found


def _devices(run: RunConfig, facts: Facts) -> Derived:
    ranks = read_ranks(os.environ)
    if ranks.starter is not Starter.command:
        return Derived(
            ranks.local_world_size, f"{ranks.starter} started {ranks.local_world_size} processes on each machine"
        )
    found: Derived = run.strategy.default_devices(run)
    return found


def _nodes(run: RunConfig, facts: Facts) -> Derived:
    ranks = read_ranks(os.environ)
    if ranks.starter is not Starter.command:
        return Derived(ranks.num_nodes, f"{ranks.starter} started processes on {ranks.num_nodes} machines")
    return Derived(1, "one machine")


def _share(parts: int, word: str, what: str) -> Empty:
    def rule(run: RunConfig, facts: Facts) -> Derived:
        return Derived(
            max(1, -(-facts.total_steps // parts)), f"a {word} of the run's {facts.total_steps} steps, rounded up"
        )

    return Empty(f"a {word} of the run, in steps, between two {what}", rule, "steps")


@option("trainer", "default")
@dataclass(slots=True)
class Trainer(Option):
    """Lightning's Trainer: one loop for one device and for many."""

    builds: ClassVar[str] = "fulgurite.trainer.build:build"
    costs: ClassVar[str] = "Nothing."

    accelerator: Accelerator = knob(
        Accelerator.auto, "The kind of device: auto takes the GPU if there is one, else the CPU.",
        source="Lightning docs, Trainer(accelerator=...)",
        advice="auto. cpu keeps the run off a GPU that others use; cuda refuses a machine without a GPU.",
        interacts={"precision": "what auto takes depends on the device"},
    )
    devices: int | None = knob(
        None, "How many devices of each machine share each step, one process for each.",
        source="Lightning docs, Trainer(devices=...)",
        bounds=at_least(1), usual=(1, 2, 4, 8),
        advice="One for each GPU. On a CPU one for each socket: two processes on two cores are slower than one.",
        empty=Empty(
            "1 under strategy=auto; under ddp every GPU, or 2 on a CPU; what torchrun or srun started, if they did",
            _devices
        ),
        raise_when="When more GPUs, or more sockets, are free.",
        lower_when="When cores are shared, or the copies do not fit in memory.",
        interacts={
            "strategy": "how they share the work", "trainer.num_nodes": "times the machines is the number of processes",
            "trainer.global_batch_size": "each takes a share of it: the mathematics is the same for every number",
        },
        memory="Under ddp each process has a copy of the model.",
        time="A step takes nearly that many times less, if the devices are GPUs.",
        misread="It is a number of devices, not a list of their ids: CUDA_VISIBLE_DEVICES selects which.",
    )
    num_nodes: int | None = knob(
        None, "How many machines take part, each with trainer.devices devices.",
        source="Lightning docs, Trainer(num_nodes=...)",
        bounds=at_least(1), usual=(1, 2, 4),
        advice="Leave it empty under torchrun and srun. Without them run the command on each machine with NODE_RANK, "
        "MASTER_ADDR and MASTER_PORT in the environment.",
        empty=Empty("1, or what torchrun or srun started", _nodes),
        raise_when="When the GPUs of one machine take too long.",
        lower_when="When the network between machines slows each step.",
        interacts={
            "run_dir": "must be on a file system that all machines share", "trainer.devices": "those of each machine",
        },
        time="A step takes nearly that many times less, on a fast network.",
    )

    global_batch_size: int | None = knob(
        None,
        "How many examples (rows when packed, pairs when compared; prompts a rollout in ppo and grpo) make one "
        "optimizer step, over all devices.",
        source="TRL's LoRA guide below 32, QLoRA 16, Tülu 3 128, DPO paper 64 (verified)",
        bounds=at_least(1), usual=(8, 16, 32, 64, 128),
        advice="Raise it for a smoother loss; lower it to get at least 200 steps.",
        empty=Empty(
            "8 packed rows; 64 pairs, 32 judged answers; 64 prompts in ppo, 8 in grpo; "
            "else 64 for full fine-tuning, 16 for the rest; down to 8 where data are few",
            _batch_size, "data",
        ),
        raise_when="For a smoother loss, with full fine-tuning, under privacy, or in preference training.",
        lower_when="To get at least 200 steps; LoRA suffers from large batches.",
        interacts={
            "optim.lr": "a larger batch bears a larger rate, about by its root",
            "trainer.micro_batch_size": "it is reached by accumulation",
            "trainer.epochs": "rows times epochs / batch is the number of steps",
        },
        time="An epoch takes nearly the same time, in fewer steps.",
        misread="It costs no memory: trainer.micro_batch_size does. Here it counts all devices and the accumulation.",
    )
    micro_batch_size: int | None = knob(
        None, "How many examples go through the model at one time. It costs memory and never changes the mathematics.",
        source="Tülu 3 sums the loss so that accumulation is exact; here it always is",
        bounds=at_least(1), usual=(1, 2, 4, 8, 16),
        advice="Lower it when memory runs out.",
        empty=Empty(
            "so many that the device is busy: about 1024 tokens on a CPU (512 where every weight is trained), "
            "8192 on a GPU",
            _micro_batch, "steps",
        ),
        sure=Sure.verified,
        raise_when="When the device is idle.", lower_when="When memory runs out.",
        interacts={
            "data.max_length": "both set what is kept for the backward pass",
            "trainer.gradient_checkpointing": "leaves room for more",
        },
        memory="Activations grow in proportion.", time="Larger is quicker until the device is full.",
    )
    epochs: float | None = knob(
        None, "How many times the data are seen.",
        source="Zephyr 1, Tülu 3 2 then 1, SmolLM2 2, Unsloth 1 to 3 (verified)",
        bounds=above(0, 1_000_000), usual=between(1, 3),
        advice="1 above 100k rows, 3 below 5k. More memorises: the loss falls like stairs.",
        empty=Empty("2 in supervised fine-tuning, 1 elsewhere", _epochs),
        raise_when="Below 5,000 rows: 3. Too few steps are mended by this, not by the rate.",
        lower_when="When the validation loss rises, or above 100,000 rows: 1.",
        interacts={"trainer.max_steps": "given, it wins", "method.dropout": "more passes want some"},
        time="In proportion.",
    )
    max_steps: int | None = knob(
        None, "Stop after so many optimizer steps, whatever the epochs say; data are repeated as needed.",
        source="Common practice", bounds=at_least(1), usual=Range(1, 10_000), advice="20 to see that everything works.",
        empty=Empty("no limit; trainer.epochs decides"),
        raise_when="When the loss still falls at the end.", lower_when="To see that everything works: 20.",
        interacts={
            "trainer.epochs": "not read where this is given", "scheduler.warmup_ratio": "a share of these steps",
        },
        time="In proportion.",
    )
    max_grad_norm: float = knob(
        1.0, "Gradients longer than this are scaled down to it; 0 turns clipping off.",
        source="HF 1.0, QLoRA 0.3, SmolLM3 0.2, TR-DPO 2 (verified); clipping: https://arxiv.org/abs/1211.5063",
        bounds=at_least(0), usual=between(0.2, 10),
        advice="Lower it for spikes; do not tune it first. The logged norm is the one before clipping.",
        raise_when="With optim=sgd, when more than half of the steps are clipped after the warmup: there it lowers "
        "the rate.",
        lower_when="When single batches make the loss spike: 0.3.",
        interacts={
            "optim.lr": "clipping does not cap it: Adam undoes a constant scale",
            "privacy.max_grad_norm": "takes its place under dp_sgd",
        },
        misread="The logged norm is the one before clipping: a logged 5 with a limit of 1 is no failure of the "
        "clipping.",
    )
    clip_algorithm: Clip = knob(
        Clip.norm, "Whether the whole gradient's length is limited, or each of its entries.",
        source="Lightning's gradient_clip_algorithm", advice="Keep norm: clipping by value bends the direction.",
        interacts={"trainer.max_grad_norm": "the limit"},
    )
    eval_every: int | None = knob(
        None, "How many optimizer steps lie between two evaluations.", source="Ours; LLaMA-Factory's form: 100 steps",
        bounds=at_least(1), usual=Range(1, 1000), advice="Lower it to see over-fitting sooner.",
        empty=_share(5, "fifth", "evaluations"),
        raise_when="When evaluations take a visible share of the time.", lower_when="To see over-fitting sooner.",
        interacts={
            "data.val_fraction": "what is measured", "scheduler.patience": "counts evaluations",
            "trainer.early_stopping_patience": "counts evaluations",
        },
        time="Each evaluation is a pass over the validation part.",
    )
    early_stopping_patience: int | None = knob(
        None,
        "End the run when val/loss, by which the best checkpoint is chosen, has not fallen for so many evaluations in "
        "a row.",
        source="Ours; Lightning's EarlyStopping waits for 3 evaluations (verified)",
        bounds=at_least(1), usual=between(2, 10),
        advice="3, where the run has ten evaluations or more. The best checkpoint is kept in any case.",
        empty=Empty("off: the run goes on to its end"),
        raise_when="When the validation loss is noisy.", lower_when="When time is short and over-fitting comes early.",
        interacts={
            "trainer.eval_every": "it counts evaluations: a run of five has no use for a patience of 5",
            "data.val_fraction": "must be above 0", "trainer.epochs": "is then the longest that the run may take",
            "scheduler.patience": "a rate that is cut needs evaluations to show what it brought: give this one more",
        },
        time="A run that has stopped learning ends sooner.",
        misread="It counts evaluations, not optimizer steps. Schedules fall towards the planned end, "
        "not towards this one.",
    )
    save_every: int | None = knob(
        None, "How many optimizer steps lie between two checkpoints.", source="Ours; LLaMA-Factory's form: 100 steps",
        bounds=at_least(1), usual=Range(1, 1000), advice="Lower it where the machine may stop at any time.",
        empty=_share(10, "tenth", "checkpoints"),
        raise_when="When writing checkpoints takes a visible share of the time.",
        lower_when="Where the machine may stop at any time.",
        interacts={"trainer.keep_checkpoints": "how many stay"},
        time="Each writes trained weights and optimizer state.",
    )
    keep_checkpoints: int = knob(
        2, "How many of the newest checkpoints are kept; the best is kept besides.",
        source="Arithmetic: a full 7B checkpoint is 84 GB", bounds=at_least(1), usual=between(1, 5),
        advice="1 when the disk is small.",
        sure=Sure.ours,
        raise_when="To choose among several checkpoints afterwards.", lower_when="When the disk is small: 1.",
        memory="Disk: each holds trained weights and optimizer state.",
    )
    log_every: int = knob(
        1, "How many optimizer steps lie between two rows of metrics.jsonl.", source="Ours",
        bounds=at_least(1), usual=(1, 10), advice="10 in runs of many thousand steps.",
        raise_when="In runs of many thousand steps: 10.", lower_when="To see every step: 1.",
    )
    gradient_checkpointing: bool = knob(
        False,
        "Whether layers are computed a second time in the backward pass, not kept: "
        "less memory, about a third more time.",
        source="Chen et al., https://arxiv.org/abs/1604.06174; LLaMA-Factory has it on by default (verified)",
        advice="On when memory runs out at a micro-batch of 1; the mathematics is the same.",
        interacts={"trainer.micro_batch_size": "may be larger then"},
        memory="Keeps each layer's input, and the activations of one layer in place of all.",
        time="About a third more.",
    )
    compile: bool = knob(
        False, "Whether the model's layers are compiled by torch (inductor).",
        source="torch docs, torch.compile; measured on a CPU: 22 % less time a step, and minutes of compiling at each "
        "new length",
        advice="Only for long runs of rows of one length (packing); the first steps take minutes.",
        interacts={"data.packing": "rows of one length are compiled once"},
        time="Minutes at the start and at each new length; then about a fifth less a step.",
    )
    num_workers: int = knob(
        0, "How many processes prepare batches besides the main one.", source="torch docs, DataLoader",
        bounds=at_least(0), usual=(0, 2, 4),
        advice="0: the data are tokenised already, and reading them costs next to nothing.",
        raise_when="When the log says that data are waited for.",
        lower_when="When memory or processes are short: 0 is no slower for tokenised data.",
        memory="Each is a process of its own.",
    )
    profiler: Profiler = knob(
        Profiler.none,
        "What measures where the time goes: simple times each hook of Lightning's loop, advanced each Python function.",
        source="Lightning docs, Trainer(profiler=...)",
        advice="simple, over 20 steps, when a run is slower than `fulgurite plan --probe` expects; "
        "read fit-profile.txt in the run folder.",
        interacts={"trainer.max_steps": "20 are enough to see where the time goes"},
        time="simple next to nothing; advanced slows each step.",
    )
    detect_anomaly: bool = knob(
        False, "Whether autograd names the operation of the forward pass whose gradient is not a number.",
        source="torch docs, torch.autograd.set_detect_anomaly; Lightning docs, Trainer(detect_anomaly=...)",
        advice="Only to find where a gradient that is not finite comes from.",
        time="Each step takes several times longer.",
    )
    deterministic: bool = knob(
        False,
        "Whether torch uses only algorithms that give the same bits each time, and refuses operations that have none.",
        source="torch docs, torch.use_deterministic_algorithms; Lightning docs, Trainer(deterministic=...)",
        advice="On a GPU, when two runs must agree bit for bit. On a CPU runs of one seed agree without it.",
        interacts={
            "seed": "the same seed is needed too", "trainer.benchmark": "may choose another algorithm in each run",
        },
        time="Some operations of a GPU are slower.",
    )
    benchmark: bool = knob(
        False, "Whether cuDNN tries its algorithms for each new shape and keeps the fastest.",
        source="torch docs, torch.backends.cudnn.benchmark; Lightning docs, Trainer(benchmark=...)",
        advice="Leave it off: language models have no convolutions, and each length would be tried anew.",
        interacts={"trainer.deterministic": "may choose another algorithm in each run"},
    )
    enable_model_summary: bool = knob(
        False, "Whether Lightning prints a table of the model's modules and their parameters before the first step.",
        source="Lightning docs, Trainer(enable_model_summary=...)",
        advice="To see which modules train; the first lines of every run name their number.",
    )
