"""Rules about room: the memory of the device, and the disk for checkpoints."""

from __future__ import annotations

from fulgurite.language.message import UserMessage, message
from fulgurite.plan.context import MemoryPart, PlanFacts
from fulgurite.plan.rules import rule
from fulgurite.plan.shards import find_sharding
from fulgurite.plan.thresholds import DISK_FULL, DISK_TIGHT, MEMORY_FULL, MEMORY_TIGHT
from fulgurite.rules.registry import Finding, Severity

PHASES = {
    "training": message("Training"), "evaluation": message("Evaluation"), "rollouts": message("A rollout"),
}
"""The phases of a run, as a sentence begins with them."""
PARTS = {
    "weights": message("weights"), "gradients": message("gradients"), "optimizer": message("optimizer"),
    "gathered": message("gathered"), "activations": message("activations"), "logits": message("logits"),
    "other": message("other"),
}
"""What memory is used for, with its names for readers."""


@rule("memory.train", "error", insist=True, source=(
    "P11, P12: LlamaFactory #3510, #3606, #388, #3825 (a full fine-tune upcasts to fp32: 18 bytes a parameter, not 2)"
))
def check_training(seen: PlanFacts) -> Finding | None:
    """A peak near the free memory; an error above 95 % of it."""
    memory, free = seen.memory, seen.machine.memory_free
    if memory is None or not free or _has_no_fit(seen) or memory.peak <= MEMORY_TIGHT * free:
        return None
    phase, part = _find_largest(seen)
    parts = join_parts(part)
    severity = Severity.error if memory.peak > MEMORY_FULL * free else Severity.warning
    return Finding(
        message(
            "{phase} needs about {peak} on {device} ({parts}); {free} are free{others}.",
            phase=PHASES[phase], peak=format_size(memory.peak), device=_name_device(seen), parts=parts,
            free=format_size(free), others=_describe_others(seen),
        ),
        _suggest_cheaper(seen), severity=severity,
    )


@rule("memory.eval", "note", source="P9: LlamaFactory #5419 (cured by moving logits each step), #5957, #1191, #7781")
def check_evaluation(seen: PlanFacts) -> Finding | None:
    """The logits of an evaluation that keeps them; ours sums the loss in pieces and keeps none."""
    run, free = seen.run, seen.machine.memory_free
    if (
        seen.data is None
        or not seen.data.val_rows
        or not free
        or not run.trainer.micro_batch_size
        or not run.data.max_length
    ):
        return None
    sides = run.stage.sides
    # Logits are float32, four bytes each; a pair has two sides.
    whole = run.trainer.micro_batch_size * sides * run.data.max_length * seen.model.vocab * 4
    if run.stage.gives_rewards or whole <= free:
        return None
    return Finding(
        message("Evaluation keeps no logits; all of a micro-batch would be {size}.", size=format_size(whole))
    )


@rule(
    "memory.replicas",
    "warning",
    source="P10: LlamaFactory #5637, #3938, #5972, #5659, #5842 (two devices use as much each as one)",
)
def check_replicas(seen: PlanFacts) -> Finding | None:
    """Processes of one machine that each keep a whole copy in the same memory."""
    memory, free, processes = seen.memory, seen.machine.memory_free, seen.run.trainer.devices or 1
    # Each GPU has memory of its own, which check_training compares; processes on a CPU share one.
    if memory is None or not free or processes < 2 or not seen.run.strategy.replicates or seen.machine.device != "cpu":
        return None
    if processes * memory.peak <= MEMORY_TIGHT * free:
        return None
    return Finding(
        message(
            "strategy={strategy} keeps a whole copy in each of {processes} processes: {each} each, {total} together; "
            "{free} are free.",
            strategy=seen.run.strategy.name, processes=processes, each=format_size(memory.peak),
            total=format_size(processes * memory.peak), free=format_size(free),
        ),
        "method=lora" if seen.run.method.whole else "trainer.devices=1",
    )


@rule("disk.checkpoints", "error", about="trainer.keep_checkpoints", source=(
    "S13, P24: LlamaFactory #4796, #6494, #1428 (84 GB each for a full 7B, no limit in the form)"
))
def check_checkpoints(seen: PlanFacts) -> Finding | None:
    """Checkpoints that would fill the disk."""
    disk, free = seen.disk, seen.machine.disk_free
    if not disk.total or not free or disk.total <= DISK_TIGHT * free:
        return None
    place = message(" in {folder}", folder=seen.folder.parent) if seen.folder is not None else message("")
    remedy = "method=lora" if seen.run.method.kin == "full" else ""
    # Fewer checkpoints come before another method: they do not change the result of the run.
    if seen.run.trainer.keep_checkpoints > 1:
        remedy = "trainer.keep_checkpoints=1"
    return Finding(
        message(
            "{count} checkpoints of {each} need {total} with the one that is being written; {free} are free{place}.",
            count=disk.kept, each=format_size(disk.checkpoint), total=format_size(disk.total), free=format_size(free),
            place=place,
        ),
        remedy, severity=Severity.error if disk.total > DISK_FULL * free else Severity.warning,
    )


@rule("device.nothing-fits", "error", source="P12: LlamaFactory #3606 (72B impossible, and nobody said so)")
def check_nothing_fits(seen: PlanFacts) -> Finding | None:
    """Not even the smallest plan fits."""
    if not _has_no_fit(seen):
        return None
    smallest = min(seen.cheaper, key=lambda other: other.peak)
    return Finding(
        message(
            "Nothing fits: the smallest plan ({words}) needs {size}, and {free} are free on {device}; use a smaller "
            "model.",
            words=smallest.override, size=format_size(smallest.peak), free=format_size(seen.machine.memory_free),
            device=_name_device(seen),
        )
    )


def format_size(bytes: float) -> str:
    """Formats bytes: `1.4 GB`."""
    return f"{bytes / 1e9:.3g} GB" if bytes >= 1e9 else f"{bytes / 1e6:.3g} MB"


def _has_no_fit(seen: PlanFacts) -> bool:
    free = seen.machine.memory_free
    return bool(
        seen.memory is not None and free and seen.cheaper
        and min(seen.memory.peak, *(other.peak for other in seen.cheaper)) > MEMORY_FULL * free
    )


def _find_largest(seen: PlanFacts) -> tuple[str, MemoryPart]:
    assert seen.memory is not None
    phases = {name: getattr(seen.memory, name) for name in ("training", "evaluation", "rollouts")}
    return max(((name, part) for name, part in phases.items() if part is not None), key=lambda pair: pair[1].total)


def join_parts(part: MemoryPart) -> UserMessage:
    """Returns the sizes of what a phase holds, in a row."""
    found = message("")
    for name, label in PARTS.items():
        if size := getattr(part, name):
            one = message("{name} {size}", name=label, size=format_size(size))
            found = message("{before}, {after}", before=found, after=one) if found else one
    return found


def list_process_lines(seen: PlanFacts) -> list[UserMessage]:
    """Lists what to know of an estimate that is of one process among several."""
    run, found = seen.run, list[UserMessage]()
    sharding = find_sharding(run.strategy, run.world_size)
    if sharding is not None:
        found.append(message(
            "each of {processes} processes holds 1/{ranks} of the weights, the gradients and the optimizer state; "
            "gathered: what it has whole for a moment",
            processes=run.world_size, ranks=sharding.ranks,
        ))
    elif run.world_size > 1:
        found.append(message(
            "each of {processes} processes needs this memory: all of them hold the whole model",
            processes=run.world_size,
        ))
    if seen.memory is not None and seen.memory.offloaded:
        each = seen.memory.offloaded
        found.append(message(
            "{each} of each process are in the memory of the CPU: {all} on a machine",
            each=format_size(each), all=format_size(each * (run.trainer.devices or 1)),
        ))
    return found


def _describe_others(seen: PlanFacts) -> UserMessage:
    """Returns what the same run would need under cheaper words, the mildest first."""
    found = message("")
    for other in seen.cheaper:
        one = message("; with {words} it is {size}", words=other.override, size=format_size(other.peak))
        found = message("{before}{after}", before=found, after=one)
    return found


def _name_device(seen: PlanFacts) -> str:
    return seen.machine.name or seen.machine.device


def _suggest_cheaper(seen: PlanFacts) -> str:
    """The mildest change that leaves room, else the smallest; without numbers, the usual order."""
    if seen.cheaper:
        fitting = [other for other in seen.cheaper if other.peak <= MEMORY_TIGHT * seen.machine.memory_free]
        return (fitting[0] if fitting else min(seen.cheaper, key=lambda other: other.peak)).override
    # In the order of what a change costs: a smaller batch does not change the result, another method does.
    run, (phase, _) = seen.run, _find_largest(seen)
    if phase == "rollouts":
        return f"stage.rollout_batch={max(1, run.stage.rollout_batch // 2)}"
    if run.trainer.micro_batch_size and run.trainer.micro_batch_size > 1:
        return f"trainer.micro_batch_size={run.trainer.micro_batch_size // 2}"
    if phase == "evaluation":
        return ""
    if not run.trainer.gradient_checkpointing and not run.stage.rolls_out and not run.private:
        return "trainer.gradient_checkpointing=true"
    return (
        "method=lora"
        if run.method.kin == "full"
        else f"method={run.method.quantised_as}"
        if run.method.quantised_as
        else ""
    )
