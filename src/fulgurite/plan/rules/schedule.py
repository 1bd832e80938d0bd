"""Rules about the learning rate over the run: its warmup, and schedules that are one under two names."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from fulgurite.language.message import message
from fulgurite.plan.context import PlanFacts
from fulgurite.plan.rules import rule
from fulgurite.plan.thresholds import FEW, SHORT, WARMUP_MOST, is_trial
from fulgurite.rules.registry import Finding, Severity
from fulgurite.scheduler.config import Scheduler, Warm
from fulgurite.scheduler.equivalence import find_same

MILD = 0.03
"""The warmup of long runs (Tülu 3, QLoRA)."""
APART = {"cycles": 2, "power": 2.0, "decay_ratio": 0.2, "min_ratio": 0.1}
"""Parameters that make a schedule differ from a plainer one, with the value that does; if none does, a warmup may."""


@rule("warmup.none", "warning", about="scheduler.warmup_ratio", source=(
    "S8: LlamaFactory #3826, #3813 (warmup is a count in forms, 0 by default)"
))
def check_none(seen: PlanFacts) -> Finding | None:
    """No warmup in full fine-tuning, preference training or a long run."""
    run = seen.run
    if seen.warmup_steps > 0 or not isinstance(run.scheduler, Warm) or seen.steps < FEW:
        return None
    if not run.method.whole and not run.stage.refers and seen.steps <= SHORT:
        return None
    return Finding(
        message(
            "No warmup: the first steps have the full rate of {lr:g}, while Adam's moments are still empty.",
            lr=run.optim.lr,
        ),
        _suggest_warmup(seen, MILD),
    )


@rule("warmup.too-long", "error", about="scheduler.warmup_steps", source="ours: a rate that never arrives")
def check_too_long(seen: PlanFacts) -> Finding | None:
    """A warmup that takes much of the run; an error if the run ends first."""
    warmup, steps = seen.warmup_steps, seen.steps
    asked = seen.is_given("scheduler.warmup_steps") or seen.is_given("scheduler.warmup_ratio")
    if steps < 1 or warmup <= WARMUP_MOST * steps or not (asked or steps >= FEW):
        return None
    about = {"warmup": warmup, "steps": steps, "lr": seen.run.optim.lr}
    refuses = warmup >= steps and not is_trial(seen)
    return Finding(
        message(
            "Warmup takes {warmup:,} of {steps:,} steps: the rate {lr:g} is reached at {share:.0%} of the run.",
            **about, share=warmup / steps,
        ) if warmup < steps else message(
            "Warmup takes {warmup:,} of {steps:,} steps: the rate {lr:g} is never reached.", **about
        ),
        _suggest_warmup(seen, MILD if steps > SHORT else 0.1), severity=Severity.error if refuses else Severity.warning,
    )


@rule(
    "scheduler.same-as", "warning", source="S6: 12 names gave 4 curves at a form's own defaults (run on the formulas)"
)
def check_same(seen: PlanFacts) -> Finding | None:
    """A schedule that is the same curve as a plainer one in this run."""
    run = seen.run
    if seen.steps < FEW or run.optim.lr is None or run.scheduler.steady:  # all are near it where there is no warmup
        return None
    found = find_same(run.scheduler, seen.steps, run.optim.lr)
    if not found:
        return None
    name, distance = found[0]
    return Finding(
        message(
            "With these values scheduler={name} is exactly the same curve as scheduler={other}.",
            name=run.scheduler.name, other=name,
        ) if distance < 1e-9 else message(
            "With these values scheduler={name} is the same curve as scheduler={other} (largest difference "
            "{distance:.2g} of the peak rate).",
            name=run.scheduler.name, other=name, distance=distance,
        ),
        _find_change_apart(seen),
    )


def _suggest_warmup(seen: PlanFacts, ratio: float) -> str:
    """Returns a ratio, or its number of steps if these were given, since they win."""
    if seen.is_given("scheduler.warmup_steps"):
        return f"scheduler.warmup_steps={max(1, math.ceil(ratio * seen.steps))}"
    return f"scheduler.warmup_ratio={ratio:g}"


def _find_change_apart(seen: PlanFacts) -> str:
    """Returns the first change after which no other schedule is near; empty if there is no such change."""
    run = seen.run
    for config, words in _list_changes(seen):
        if not find_same(config, seen.steps, run.optim.lr):
            return words
    return ""


def _list_changes(seen: PlanFacts) -> Iterator[tuple[Scheduler, str]]:
    scheduler = seen.run.scheduler
    for knob, value in APART.items():
        if hasattr(scheduler, knob) and getattr(scheduler, knob) != value:
            yield replace(scheduler, **{knob: value}), f"scheduler.{knob}={value:g}"
    if isinstance(scheduler, Warm):
        warmup = max(1, math.ceil(0.1 * seen.steps))
        slow = {"timescale": warmup} if hasattr(scheduler, "timescale") else {}  # else it would be that of no warmup
        words = {"warmup_steps": warmup, **(slow if seen.is_given("scheduler.timescale") else {})}
        yield (
            replace(scheduler, warmup_steps=warmup, **slow),
            " ".join(f"scheduler.{name}={number}" for name, number in words.items()),
        )
