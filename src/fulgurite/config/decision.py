"""Decisions about parameters: a value, how it was chosen, and why, as data.
Sentences are made from them and never read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from fulgurite.config.confidence import Sure
from fulgurite.language.catalogue import translate_text
from fulgurite.language.message import UserMessage


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

EARLIER = {
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
"""The sentences of the keys in provenance.json of earlier versions; a key is the template itself now."""


def _read_because(stored: Mapping[str, Any]) -> UserMessage:
    """Makes a reason of what `UserMessage.to_json` returned, in this version or an earlier one."""
    facts = {n: _read_because(f) if isinstance(f, Mapping) and "key" in f else f for n, f in stored["facts"].items()}
    key = str(stored["key"])
    return UserMessage(EARLIER.get(key, key), facts)


@dataclass(frozen=True, slots=True)
class Decision:
    """The value of one parameter, how it was chosen, and why."""

    parameter: str
    value: Any
    kind: Kind
    because: UserMessage = field(default_factory=UserMessage)
    sure: Sure | None = None
    """How sure a derived value is, if its rule knows."""

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
        if self.kind is Kind.default:  # the declaration describes an empty value
            return translate_text(self.parameter, "empty", self.because.template)
        return str(self.because)

    def to_json(self, value: Any) -> dict[str, Any]:
        """Returns the entry of provenance.json: value, origin and reason for readers,
        kind and because for a resumed run."""
        shown = {"value": value, "origin": self.origin, "reason": self.because.english}
        shown |= {"sure": str(self.sure)} if self.sure else {}
        return shown | ({"kind": str(self.kind), "because": self.because.to_json()} if self.derived else {})


def read_decision(parameter: str, stored: Mapping[str, Any]) -> Decision:
    """Makes a decision of its entry in provenance.json; one of an earlier version has a sentence alone."""
    if "because" in stored:
        sure = Sure(stored["sure"]) if "sure" in stored else None
        return Decision(parameter, stored["value"], Kind(stored["kind"]), _read_because(stored["because"]), sure)
    return Decision(parameter, stored["value"], Kind(stored["origin"]), UserMessage(stored.get("reason", "")))
