"""Decisions about parameters: a value, how it was chosen, and why, as data.
Sentences are made from them and never read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """How a parameter came to its value."""

    default = "default"
    preset = "preset"
    command_line = "command line"
    derived = "derived"
    """By a rule, from other parameters, the data or the model."""
    fitted = "fitted"
    """Lowered until the estimate of the memory fits."""
    confirmed = "confirmed"
    """Tried on the longest examples before training."""
    halved = "halved"
    """Lowered after the memory ran out in training."""


GIVEN = frozenset({Kind.preset, Kind.command_line})
"""The kinds of a value that a person chose."""

REASONS = {
    "": "",
    "words": "{words}",
    "attention": "transformers has no other for {architecture}",
    "name": "stage, method and model",
    "job_folder": "the folder that was given, and the job's number",
    "sweep_folder": "the sweep's folder and the job's number",
    "range_test": "the range test's steps",
    "free_memory": (
        "{free:.3g} GB are free, and {asked} would need {need:.3g} GB; the mathematics is the same for every value"
    ),
    "trial": "{before}; confirmed by a trial step on the longest rows, {tokens} tokens",
    "failed_trial": "{asked} was out of memory in a trial step; the mathematics is the same for every value",
    "halved": "halved from {before}, which was out of memory at step {step}; the mathematics is the same",
}
"""The sentence of each reason, with a place for each of its facts."""


@dataclass(frozen=True, slots=True)
class Because:
    """Why a value was chosen: a key of REASONS, and the facts of its sentence, which may be reasons too."""

    key: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return REASONS[self.key].format(**self.facts)

    def to_json(self) -> dict[str, Any]:
        """Returns plain values, from which `read_because` makes the reason again."""
        facts = {name: fact.to_json() if isinstance(fact, Because) else fact for name, fact in self.facts.items()}
        return {"key": self.key, "facts": facts}


def because(key: str, **facts: Any) -> Because:
    """Returns the reason `key` with its facts."""
    return Because(key, facts)


def read_because(stored: Mapping[str, Any]) -> Because:
    """Makes a reason of what `Because.to_json` gave."""
    facts = {n: read_because(f) if isinstance(f, Mapping) and "key" in f else f for n, f in stored["facts"].items()}
    return Because(str(stored["key"]), facts)


@dataclass(frozen=True, slots=True)
class Decision:
    """The value of one parameter, how it was chosen, and why."""

    parameter: str
    value: Any
    kind: Kind
    because: Because = field(default_factory=Because)

    @property
    def origin(self) -> str:
        """The kind for readers: default, preset, command line or derived."""
        return str(self.kind if self.kind in GIVEN or self.kind is Kind.default else Kind.derived)

    @property
    def derived(self) -> bool:
        """Whether nobody gave the value and it is no default."""
        return self.origin == Kind.derived

    @property
    def reason(self) -> str:
        """Why, in words."""
        return str(self.because)

    def to_json(self, value: Any) -> dict[str, Any]:
        """Returns the entry of provenance.json: value, origin and reason for readers,
        kind and because for a resumed run."""
        shown = {"value": value, "origin": self.origin, "reason": self.reason}
        return shown | ({"kind": str(self.kind), "because": self.because.to_json()} if self.derived else {})


def read_decision(parameter: str, stored: Mapping[str, Any]) -> Decision:
    """Makes a decision of its entry in provenance.json; one of an earlier version has a sentence alone."""
    if "because" in stored:
        return Decision(parameter, stored["value"], Kind(stored["kind"]), read_because(stored["because"]))
    return Decision(
        parameter, stored["value"], Kind(stored["origin"]), because("words", words=stored.get("reason", ""))
    )
