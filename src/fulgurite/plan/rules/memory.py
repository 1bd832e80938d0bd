"""Whether it fits: the device's memory, and the disk for checkpoints."""

from __future__ import annotations

from fulgurite.plan.context import MemoryPart, PlanFacts
from fulgurite.plan.rules import rule
from fulgurite.plan.thresholds import DISK_FULL, DISK_TIGHT, MEMORY_FULL, MEMORY_TIGHT
from fulgurite.rules.registry import Finding, Severity

PARTS = ("weights", "gradients", "optimizer", "activations", "logits", "other")


@rule("memory.train", "error", insist=True, source=(
    "P11, P12: LlamaFactory #3510, #3606, #388, #3825 (a full fine-tune upcasts to fp32: 18 bytes a parameter, not 2)"
))
def check_training(seen: PlanFacts) -> Finding | None:
    """A peak that comes near the free memory; an error where it goes beyond 95 % of it."""
    memory, free = seen.memory, seen.machine.memory_free
    if memory is None or not free or _has_no_fit(seen) or memory.peak <= MEMORY_TIGHT * free:
        return None
    phase, part = _find_largest(seen)
    numbers = ", ".join(f"{name} {format_size(n)}" for name in PARTS if (n := getattr(part, name)))
    others = "".join(f"; with {other.override} it is {format_size(other.peak)}" for other in seen.cheaper)
    severity = Severity.error if memory.peak > MEMORY_FULL * free else Severity.warning
    return Finding(
        f"{phase} needs about {format_size(memory.peak)} on {_name_device(seen)} "
        f"({numbers}); {format_size(free)} are free{others}.",
        _suggest_cheaper(seen), severity=severity,
    )


@rule("memory.eval", "note", source="P9: LlamaFactory #5419 (cured by moving logits each step), #5957, #1191, #7781")
def check_evaluation(seen: PlanFacts) -> Finding | None:
    """What an evaluation that keeps its logits would hold; ours sums the loss in pieces and keeps none."""
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
    whole = run.trainer.micro_batch_size * sides * run.data.max_length * seen.model.vocab * 4
    if run.stage.gives_rewards or whole <= free:
        return None
    return Finding(f"Evaluation keeps no logits; whole they would be {format_size(whole)} a micro-batch.")


@rule(
    "memory.replicas",
    "warning",
    source="P10: LlamaFactory #5637, #3938, #5972, #5659, #5842 (two devices use as much each as one)",
)
def check_replicas(seen: PlanFacts) -> Finding | None:
    """Processes of one machine that each keep a whole copy in the same memory."""
    memory, free, processes = seen.memory, seen.machine.memory_free, seen.run.trainer.devices or 1
    if memory is None or not free or processes < 2 or not seen.run.strategy.replicates or seen.machine.device != "cpu":
        return None
    if processes * memory.peak <= MEMORY_TIGHT * free:
        return None
    return Finding(
        f"strategy={seen.run.strategy.name} keeps a whole copy in each of {processes} "
        f"processes: {format_size(memory.peak)} "
        f"each, "
        f"{format_size(processes * memory.peak)} together; {format_size(free)} are free.",
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
    where = f" in {seen.folder.parent}" if seen.folder is not None else ""
    remedy = "method=lora" if seen.run.method.kin == "full" else ""
    if seen.run.trainer.keep_checkpoints > 1:
        remedy = "trainer.keep_checkpoints=1"
    return Finding(
        f"{disk.kept} checkpoints of {format_size(disk.checkpoint)} "
        f"need {format_size(disk.total)} with the one that is being "
        f"written; "
        f"{format_size(free)} are free{where}.",
        remedy, severity=Severity.error if disk.total > DISK_FULL * free else Severity.warning,
    )


@rule("device.nothing-fits", "error", source="P12: LlamaFactory #3606 (72B impossible, and nobody said so)")
def check_nothing_fits(seen: PlanFacts) -> Finding | None:
    """Not even the smallest plan fits."""
    if not _has_no_fit(seen):
        return None
    smallest = min(seen.cheaper, key=lambda other: other.peak)
    return Finding(
        f"Nothing fits: the smallest plan ({smallest.override}) needs {format_size(smallest.peak)}, and "
        f"{format_size(seen.machine.memory_free)} are "
        f"free on {_name_device(seen)}; take a smaller model."
    )


def format_size(bytes: float) -> str:
    """Bytes as a person reads them."""
    return f"{bytes / 1e9:.3g} GB" if bytes >= 1e9 else f"{bytes / 1e6:.3g} MB"


def _has_no_fit(seen: PlanFacts) -> bool:
    free = seen.machine.memory_free
    return bool(
        seen.memory is not None and free and seen.cheaper
        and min(seen.memory.peak, *(other.peak for other in seen.cheaper)) > MEMORY_FULL * free
    )


def _find_largest(seen: PlanFacts) -> tuple[str, MemoryPart]:
    assert seen.memory is not None
    phases = {"Training": seen.memory.training, "Evaluation": seen.memory.evaluation, "A rollout": seen.memory.rollouts}
    return max(((name, part) for name, part in phases.items() if part is not None), key=lambda pair: pair[1].total)


def _name_device(seen: PlanFacts) -> str:
    return seen.machine.name or seen.machine.device


def _suggest_cheaper(seen: PlanFacts) -> str:
    """The mildest change that leaves room, else the smallest; where no numbers are known, the usual order."""
    if seen.cheaper:
        fitting = [other for other in seen.cheaper if other.peak <= MEMORY_TIGHT * seen.machine.memory_free]
        return (fitting[0] if fitting else min(seen.cheaper, key=lambda other: other.peak)).override
    run, (phase, _) = seen.run, _find_largest(seen)
    if phase == "A rollout":
        return f"stage.rollout_batch={max(1, run.stage.rollout_batch // 2)}"
    if run.trainer.micro_batch_size and run.trainer.micro_batch_size > 1:
        return f"trainer.micro_batch_size={run.trainer.micro_batch_size // 2}"
    if phase == "Evaluation":
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
