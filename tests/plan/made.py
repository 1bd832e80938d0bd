"""What a rule sees, made for a test: a real composed run, and facts that are set by hand."""

from __future__ import annotations

from typing import Any

from fulgurite.config.compose import compose
from fulgurite.config.resolve import fill
from fulgurite.config.run import Facts
from fulgurite.plan.context import DataFacts, ModelFacts, PlanFacts
from fulgurite.plan.diagnostic import Trouble
from fulgurite.plan.rules import RULES


def seen(*overrides: str, steps: int = 1000, **facts: Any) -> PlanFacts:
    """A run of `overrides` (the logger off), its empty knobs filled for 10,000 rows of at most 512 tokens and `steps` steps."""
    composed = compose(["logger=none", *overrides])
    counts = Facts(percentile_99=500, rows=10_000, model_length=2048, total_steps=steps)
    composed = fill(composed, counts, "data")
    composed = fill(composed, counts, "steps")
    base: dict[str, Any] = {
        "model": ModelFacts(
            parameters=135_000_000, trained=2_000_000, layers=30, hidden=576, vocab=49_152, max_positions=2048, path="bundled",
        ),
        "data": DataFacts(
            records=10_500, rows=10_000, val_rows=500, tokens=2_000_000, label_tokens=800_000, max_length=512, sources=["a.jsonl"],
        ),
        "warmup_steps": getattr(composed.run.scheduler, "warmup_steps", 0) or 0,
    }
    unusual = list(composed.unusual)
    known = base | facts
    return PlanFacts(
        composed.run, composed.provenance, steps=steps, choices=composed.choices, unusual=unusual, **known
    )


def said(rule: str, what: PlanFacts) -> Trouble | None:
    """What one rule says of it, as `find_troubles` would tell it."""
    from fulgurite.plan.rules import find_troubles

    assert rule in RULES, f"there is no rule {rule}"
    return next((trouble for trouble in find_troubles(what) if trouble.rule == rule), None)
