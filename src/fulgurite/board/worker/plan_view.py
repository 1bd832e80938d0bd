"""A plan as the page shows it: numbers, curves, findings with what a button changes, and every parameter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fulgurite.board.draft import Draft, build_command
from fulgurite.board.draft_yaml import write_yaml
from fulgurite.board.worker.estimate import TimeEstimate, describe_duration
from fulgurite.board.worker.length_bins import count_bins
from fulgurite.board.worker.parameters import RunState, list_rows
from fulgurite.board.worker.remedy import build_changes
from fulgurite.board.worker.unfit import find_unfit
from fulgurite.config.run import GROUPS
from fulgurite.explain.choices import list_presets
from fulgurite.explain.titles import get_title
from fulgurite.language.message import UserMessage, message
from fulgurite.plan.alternatives import TIGHT
from fulgurite.plan.context import DataFacts, PlanFacts
from fulgurite.plan.diagnostic import Trouble
from fulgurite.plan.prepare import Gathered
from fulgurite.plan.report import PARTS, PHASES, PlanReport, format_size, list_lost
from fulgurite.plan.rules import RULES
from fulgurite.plan.rules.memory import PARTS as LABELS

POINTS = 200
"""The most points of the schedule's curve."""


def build_plan(draft: Draft, words: list[str], gathered: Gathered, report: PlanReport, allow_code: bool,
               time: TimeEstimate) -> dict[str, Any]:
    """Returns the answer of /api/plan."""
    seen, data = report.seen, report.seen.data
    assert data is not None
    per_step = seen.run.stage.count_examples_per_step(seen.run.trainer.global_batch_size)
    state = RunState(seen.run, seen.origins, gathered.facts, report.findings, draft, allow_code)
    return {
        "sentence": str(describe_plan(seen, time.seconds)), "seconds": time.seconds, "timed_by": time.source,
        "duration": str(describe_duration(time.seconds)) if time.seconds is not None else "",
        "steps": seen.steps, "warmup_steps": seen.warmup_steps, "rows": data.rows, "validation_rows": data.val_rows,
        "tokens": data.tokens, "label_tokens": data.label_tokens,
        "tokens_per_step": round(data.tokens / max(data.rows, 1) * per_step),
        "parameters_total": seen.model.parameters, "trainable": seen.model.trained,
        "schedule": build_schedule(seen), "lengths": build_lengths(data), "memory": build_memory(seen),
        "disk": {
            "checkpoint": seen.disk.checkpoint, "kept": seen.disk.kept, "total": seen.disk.total,
            "free": seen.machine.disk_free,
        },
        "findings": [build_finding(trouble, draft) for trouble in report.findings], "refused": report.refused,
        "parameters": list_rows(state),
        "groups": list_choices(seen), "unfit": find_unfit(seen.run),
        "lost": [str(sentence) for sentence in list_lost(data)],
        "command": build_command(draft, words), "words": words, "yaml": write_yaml(draft),
    }


def describe_plan(seen: PlanFacts, seconds: float | None) -> UserMessage:
    """Returns the plan in one sentence."""
    facts: dict[str, Any] = {
        "stage": seen.run.stage.name.upper(), "method": seen.choices.get("method", seen.run.method.name),
        "steps": seen.steps,
    }
    facts["method"] = METHODS.get(str(facts["method"]), facts["method"])
    peak = format_size(seen.memory.peak) if seen.memory is not None else None
    if seconds is not None and peak is not None:
        return message(
            "{stage} with {method}, {steps:,} steps, about {time}, {memory} of memory",
            **facts, time=describe_duration(seconds), memory=peak,
        )
    if peak is not None:
        return message("{stage} with {method}, {steps:,} steps, time unknown, {memory} of memory", **facts, memory=peak)
    return message("{stage} with {method}, {steps:,} steps, time unknown", **facts)


METHODS: Mapping[str, str | UserMessage] = {
    "lora": "LoRA", "qlora": "QLoRA", "dora": "DoRA", "rslora": "rsLoRA", "lora_plus": "LoRA+", "pissa": "PiSSA",
    "oft": "OFT", "ia3": "IA3", "vera": "VeRA", "full": message("full fine-tuning"), "llama_pro": "LLaMA Pro",
}
"""How the methods are written in a sentence; the others by their name."""


def build_schedule(seen: PlanFacts) -> dict[str, Any] | None:
    """Returns the learning rate by step, None if the validation loss decides it."""
    if seen.curve is None or seen.run.optim.lr is None:
        return None
    last = max(seen.steps - 1, 0)
    # the end of the warmup is a corner of the curve, which even steps would cut off
    even = {round(last * n / (POINTS - 2)) for n in range(POINTS - 1)}
    steps = sorted(even | {min(seen.warmup_steps, last)})
    lr = float(seen.run.optim.lr)
    points = [[step, lr * seen.curve(step)] for step in steps]
    return {"points": points, "lr": lr, "warmup": seen.warmup_steps}


def build_lengths(data: DataFacts) -> dict[str, Any]:
    """Returns the histogram of the examples' lengths, and where data.max_length cuts."""
    return {
        "bins": count_bins(data.lengths, data.max_length) if data.lengths is not None else [],
        "p99": data.percentile_99, "cut": data.max_length, "longer": data.too_long,
        "max": int(data.lengths.max()) if data.lengths is not None and len(data.lengths) else 0,
    }


def build_memory(seen: PlanFacts) -> dict[str, Any] | None:
    """Returns the memory of each phase by part, None if it could not be estimated."""
    if seen.memory is None:
        return None
    phases = {name: part for name in PHASES if (part := getattr(seen.memory, name)) is not None}
    free = seen.machine.memory_free
    level = "ok" if seen.memory.peak <= TIGHT * free else "tight" if seen.memory.peak <= free else "over"
    return {
        "phases": {
            name: {part: getattr(held, part) for part in PARTS} | {"total": held.total} for name, held in phases.items()
        },
        "labels": {part: str(LABELS[part]) for part in PARTS} | {name: str(PHASES[name]) for name in phases},
        "peak": seen.memory.peak, "free": free, "total": seen.machine.memory_total, "level": level,
        "device": seen.machine.device,
    }


def build_finding(trouble: Trouble, draft: Draft) -> dict[str, Any]:
    """Returns a finding with its remedy as a change of the draft, and the change that lets the run start in spite of
    it."""
    rule = RULES.get(trouble.rule)
    about = trouble.about or (rule.about if rule is not None else "")
    insist = None
    if trouble.refuses and rule is not None and rule.insist:
        named = [word for word in draft.values.get("plan.allow", "").strip("[] ").split(",") if word.strip()]
        allowed = [*(word.strip() for word in named), trouble.rule]
        insist = {"choices": {}, "values": {"plan.allow": f"[{', '.join(allowed)}]"}}
    return {
        "rule": trouble.rule, "severity": str(trouble.severity), "sentence": str(trouble.sentence),
        "remedy": trouble.remedy, "changes": build_changes(draft, trouble.overrides), "insist": insist,
        "about": about, "title": get_title(about) if about else "",
        "refuses": trouble.refuses, "allowed": trouble.allowed,
    }


def list_choices(seen: PlanFacts) -> dict[str, Any]:
    """Returns the option or preset of each group in use; of groups with several options a list."""
    found: dict[str, Any] = {}
    for group in GROUPS:
        node = getattr(seen.run, group)
        found[group] = sorted(node) if isinstance(node, dict) else node.name
        chosen = seen.choices.get(group)
        if any(preset.name == chosen for preset in list_presets(group)):
            found[group] = chosen
    return found
