"""A finding about a plan: one sentence with the value, and one remedy, as overrides to paste."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from fulgurite.language.message import UserMessage, as_message, get_english
from fulgurite.rules.registry import Severity


@dataclass(frozen=True, slots=True)
class Trouble:
    """A finding of a rule. `allowed`: plan.allow names the rule, so the run may start in spite of it."""

    rule: str
    severity: Severity
    sentence: str | UserMessage
    remedy: str = ""
    allowed: bool = False
    about: str = ""

    def to_json(self) -> dict[str, Any]:
        """Returns plain values for troubles.json, in English whatever language is in use."""
        sentence = {"sentence": get_english(self.sentence), "message": as_message(self.sentence).to_json()}
        return asdict(replace(self, sentence="")) | sentence

    @property
    def overrides(self) -> list[str]:
        """The remedy as words for the command line."""
        return self.remedy.split()

    @property
    def refuses(self) -> bool:
        """Whether training does not start."""
        return self.severity is Severity.error and not self.allowed
