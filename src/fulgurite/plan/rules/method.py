"""Rules about which weights train. A pattern that matches nothing, and pairs that cannot be, are refused by their
declarations."""

from __future__ import annotations

import math
from collections import Counter

from fulgurite.language.message import message
from fulgurite.plan.context import PlanFacts
from fulgurite.plan.rules import rule
from fulgurite.plan.thresholds import LEFT_OUT, LEFT_OUT_MUCH
from fulgurite.rules.registry import Finding, Severity


@rule(
    "freeze.pattern",
    "note",
    source="P22: LlamaFactory #1514, #3694, #3072, #5152, #8834, #6731 (which layers are trained?)",
)
def check_trained(seen: PlanFacts) -> Finding | None:
    """What trains, if the method chooses parts."""
    if not seen.run.method.prints_table or not seen.model.trained:
        return None
    groups: Counter[str] = Counter()
    for tensor in seen.model.tensors:
        groups[tensor.kind] += math.prod(tensor.shape) if tensor.trained else 0
    parts = ", ".join(f"{kind} {count:,}" for kind, count in groups.most_common() if count)
    return Finding(
        message(
            "{trained:,} of {total:,} parameters ({share:.1%}) train: {parts}.",
            trained=seen.model.trained, total=seen.model.parameters, share=seen.model.share, parts=parts,
        ) if parts else message(
            "{trained:,} of {total:,} parameters ({share:.1%}) train.",
            trained=seen.model.trained, total=seen.model.parameters, share=seen.model.share,
        )
    )


@rule("lora.left-out", "warning", about="method.targets", source=(
    "Ours; peft docs, LoRA on experts that are parameters: an adapter of linear layers passes over them"
))
def check_left_out(seen: PlanFacts) -> Finding | None:
    """Weights that no adapter reaches although nobody chose so: experts that are stored as one tensor, layers that a
    kernel reads by itself."""
    total = sum(seen.model.without_adapter.values())
    if not total or getattr(seen.run.method, "targets", None) is not None or seen.run.method.leaves_out:
        return None
    share = total / max(seen.model.parameters - seen.model.trained, 1)
    if share < LEFT_OUT:
        return None
    names = sorted(seen.model.without_adapter, key=lambda name: -seen.model.without_adapter[name])
    more = message(" and {count} more", count=len(names) - 4) if len(names) > 4 else message("")
    severity = Severity.warning if share >= LEFT_OUT_MUCH else Severity.note
    return Finding(
        message(
            "{share:.0%} of the frozen weights have no adapter and learn nothing: {names}{more} (experts that are "
            "stored as one tensor are adapted by plain LoRA without dropout only; a kernel reads some weights by "
            "itself).",
            share=share, names=", ".join(names[:4]), more=more,
        ),
        "", severity=severity,
    )
