"""Judges values before a run: what `plan` finds about them, without torch and without data."""

from __future__ import annotations

from collections.abc import Sequence

from fulgurite.config.compose import compose
from fulgurite.config.override_names import read_name
from fulgurite.plan.context import PlanFacts
from fulgurite.plan.diagnostic import Trouble
from fulgurite.plan.rules import RULES, find_troubles


def find_value_troubles(words: Sequence[str]) -> list[Trouble]:
    """Returns what the rules find about the parameters in `words`, given the options and values beside them.

    `["optim.lr=1e-7", "stage=dpo", "method=full"]` judges the rate of a full DPO run on the default model. Loads
    neither torch nor data. Raises ConfigError for a value that is not legal, and for words that make no run.
    """
    composed = compose(words)
    names = {name for word in words if "." in (name := read_name(word))}
    found = find_troubles(PlanFacts(
        composed.run, composed.provenance, choices=composed.choices, unusual=list(composed.unusual)
    ))
    # a rule is about the parameter that it names, and a finding may name another one
    return [trouble for trouble in found if {trouble.about, RULES[trouble.rule].about} & names]
