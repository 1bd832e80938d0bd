"""Judges values before a run: what `plan` finds about them, without torch and without data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fulgurite.config.compose import compose
from fulgurite.config.facts import Facts
from fulgurite.config.override_names import read_name
from fulgurite.config.schema import Derived, Range, Usual, walk_settings
from fulgurite.language.message import UserMessage, message
from fulgurite.plan.context import PlanFacts
from fulgurite.plan.diagnostic import Trouble
from fulgurite.plan.rules import RULES, find_troubles
from fulgurite.rules.registry import Severity

USUAL = "value.usual"
"""Replaces the rule in a finding about a value that no rule objects to."""


def judge_value(words: Sequence[str]) -> list[Trouble]:
    """Returns what the rules find about the parameters in `words`, given the options and values beside them; of a
    number that no rule objects to, a note with its usual range.

    `["optim.lr=1e-7", "stage=dpo", "method=full"]` judges the rate of a full DPO run on the default model. Loads
    neither torch nor data. Raises ConfigError for a value that is not legal, and for words that make no run.
    """
    composed = compose(words)
    names = [name for word in words if "." in (name := read_name(word))]
    found = find_troubles(PlanFacts(
        composed.run, composed.provenance, choices=composed.choices, unusual=list(composed.unusual)
    ))
    about = [(trouble, {trouble.about, RULES[trouble.rule].about} & set(names)) for trouble in found]
    judged = {name for _, judged_names in about for name in judged_names}
    settings = {knob.path: (knob, value) for knob, value in walk_settings(composed.run)}
    notes = []
    for name in dict.fromkeys(names):
        if name in settings and name not in judged:
            knob, value = settings[name]
            rule = knob.empty.rule if knob.empty and knob.empty.needs == "config" else None
            derived = rule(composed.run, Facts()) if rule else None
            notes += _describe_usual(name, value, knob.find_usual(composed.run), derived)
    return [trouble for trouble, judged_names in about if judged_names] + notes


def _describe_usual(name: str, value: Any, usual: Usual | None, derived: Derived | None) -> list[Trouble]:
    """Returns a note about a number inside its usual range, or nothing if it has none."""
    if not isinstance(value, int | float) or not isinstance(usual, Range):
        return []
    sentence: UserMessage = message("{name}={value:g} is usual here ({range}).", name=name, value=value, range=usual)
    if derived is not None and derived.value != value:
        sentence = message(
            "{sentence} Left empty it is {derived:g}: {reason}.",
            sentence=sentence, derived=derived.value, reason=derived.reason,
        )
    return [Trouble(USUAL, Severity.note, sentence, about=name)]
