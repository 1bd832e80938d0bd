"""Facts of a plan for the tests: a composed run, and facts that are set by hand."""

from __future__ import annotations

from functools import cache
from typing import Any

from fulgurite.config.compose import compose
from fulgurite.config.facts import Facts
from fulgurite.config.provenance import Composed
from fulgurite.config.resolve import fill
from fulgurite.plan.context import DataFacts, ModelFacts, PlanFacts
from fulgurite.plan.diagnostic import Trouble
from fulgurite.plan.rules import RULES, find_troubles

MODEL = {"parameters": 135_000_000, "trained": 2_000_000, "vocab": 49_152, "max_positions": 2048}
DATA = {
    "records": 10_500, "rows": 10_000, "val_rows": 500, "tokens": 2_000_000, "label_tokens": 800_000, "max_length": 512,
}


@cache
def compose_once(*overrides: str) -> Composed:
    """Composes a run without a logger; many cases have the same words, and composing takes most of a test's time."""
    return compose(["logger=none", *overrides])


def build_facts(*overrides: str, steps: int = 1000, **facts: Any) -> PlanFacts:
    """Returns the facts of a composed run; its empty parameters are filled for 10,000 rows of at most 512 tokens."""
    composed = compose_once(*overrides)
    counts = Facts(percentile_99=500, rows=10_000, model_length=2048, total_steps=steps)
    composed = fill(fill(composed, counts, "data"), counts, "steps")
    known: dict[str, Any] = {
        "model": ModelFacts(**MODEL, layers=30, hidden=576, path="bundled"),
        "data": DataFacts(**DATA, sources=["a.jsonl"]),
        "warmup_steps": getattr(composed.run.scheduler, "warmup_steps", 0) or 0,
        "unusual": list(composed.unusual),
    }
    return PlanFacts(composed.run, composed.provenance, steps=steps, choices=composed.choices, **(known | facts))


def find_trouble(rule: str, facts: PlanFacts) -> Trouble | None:
    """Returns what one rule finds, as `find_troubles` reports it, or None."""
    assert rule in RULES, f"there is no rule {rule}"
    return next((trouble for trouble in find_troubles(facts) if trouble.rule == rule), None)
