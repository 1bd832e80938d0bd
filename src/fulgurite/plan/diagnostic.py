"""What a rule says: one sentence of what is wrong, with the value, and one remedy, as an override to paste."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """What becomes of a trouble: `train` refuses an error, prints a warning once, and keeps a note in the run's folder."""

    error = "error"
    warning = "warning"
    note = "note"


@dataclass(frozen=True, slots=True)
class Say:
    """What a rule answers when it speaks. `severity` is given where it is milder than the rule's own; `remedy` is `knob=value` words,
    several separated by blanks, or empty where there is nothing to paste."""

    sentence: str
    remedy: str = ""
    severity: Severity | None = None


@dataclass(frozen=True, slots=True)
class Trouble:
    """What a rule said of a run. `allowed`: the person named the rule in plan.allow, and it no longer stands in the way."""

    rule: str
    severity: Severity
    sentence: str
    remedy: str = ""
    allowed: bool = False

    @property
    def overrides(self) -> list[str]:
        """The remedy as words for the command line."""
        return self.remedy.split()

    @property
    def refuses(self) -> bool:
        """Whether training does not begin."""
        return self.severity is Severity.error and not self.allowed
