"""The tiny model in a composed run, with the facts that are read of it."""

from __future__ import annotations

from fulgurite.config.compose import compose
from fulgurite.config.facts import Facts
from fulgurite.config.provenance import Composed
from fulgurite.config.resolve import fill
from fulgurite.plan.context import ModelFacts
from fulgurite.plan.meta_model import outline_model
from fulgurite.precision.policy import Dtypes
from fulgurite.precision.policy import build as settle


def compose_tiny(*words: str) -> tuple[Composed, Dtypes, ModelFacts]:
    """Composes a run of 10 steps over 100 rows on the tiny model."""
    composed = compose(["model=tiny", "data.max_length=64", *words])
    composed = fill(composed, Facts(), "data")
    composed = fill(composed, Facts(total_steps=10, rows=100), "steps")
    dtypes: Dtypes = settle(composed.run.precision, "cpu")
    return composed, dtypes, outline_model(composed.run, dtypes)[1]
