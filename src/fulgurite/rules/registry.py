"""The one engine of rules: `plan` checks its rules before a run starts, `monitor` while it trains."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

from fulgurite.errors import ConfigError, suggest_similar
from fulgurite.language.message import UserMessage, message

Facts = TypeVar("Facts")


class Severity(StrEnum):
    """What a finding does to a run: an `error` keeps it from starting, a `stop` ends it; it goes on after the others.
    """

    error = "error"
    stop = "stop"
    warning = "warning"
    note = "note"


def describe_severity(severity: Severity) -> UserMessage:
    """Returns a severity in the language in use."""
    return {
        Severity.error: message("error"), Severity.stop: message("stop"), Severity.warning: message("warning"),
        Severity.note: message("note"),
    }[severity]


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong, in one sentence, and one remedy.

    The remedy of a plan is `parameter=value` words to paste, or empty; that of a monitor is a sentence. `severity` is
    given if it is milder than the rule's own; `values` are the numbers behind the sentence.
    """

    sentence: str | UserMessage
    remedy: str | UserMessage = ""
    values: dict[str, float | int | str] = field(default_factory=dict)
    severity: Severity | None = None
    about: str = ""
    """The parameter that the finding is about, if it is not the rule's own."""


Answer = Finding | list[Finding] | None
Check = Callable[[Facts], Answer]


@dataclass(frozen=True, slots=True)
class Rule(Generic[Facts]):
    """A registered rule. `severity` is the worst of its findings."""

    id: str
    severity: Severity
    meaning: str
    """What the rule looks for: the first paragraph of its function's docstring."""
    checks: dict[str, Check[Facts]]
    """The function for each moment at which the rule is checked."""
    source: str = ""
    insist: bool = False
    """Whether the user may start a run in spite of an error of this rule."""
    about: str = ""
    """The parameter whose values this rule judges better than its declared usual range does."""


class Registry(Generic[Facts]):
    """Rules by id, in the order of their registration."""

    def __init__(self) -> None:
        self.rules: dict[str, Rule[Facts]] = {}

    def add(
        self, id: str, severity: Severity | str = Severity.error, *, at: str = "", source: str = "",
        insist: bool = False, about: str = "",
    ) -> Callable[[Check[Facts]], Check[Facts]]:
        """Registers the decorated function as a rule; a rule of several moments has a function for each.

        Raises ValueError if the rule has a function for this moment already.
        """

        def register(function: Check[Facts]) -> Check[Facts]:
            known = self.rules.get(id)
            if known is None:
                meaning = " ".join((function.__doc__ or "").partition("\n\n")[0].split())
                self.rules[id] = Rule(id, Severity(severity), meaning, {at: function}, source, insist, about)
            elif at in known.checks:
                raise ValueError(f"the rule {id} is registered already, in {known.checks[at].__module__}")
            else:
                known.checks[at] = function
            return function

        return register

    def load(self, package: str, modules: Iterable[str]) -> None:
        """Imports modules of a package, each of which registers its rules."""
        for name in modules:
            importlib.import_module(f"{package}.{name}")

    def find(self, facts: Facts, at: str = "", skip: Collection[str] = ()) -> Iterator[tuple[Rule[Facts], Finding]]:
        """Checks the rules of a moment, except those in `skip`, and yields their findings."""
        for rule in self.rules.values():
            check = rule.checks.get(at)
            if check is None or rule.id in skip:
                continue
            answer = check(facts)
            if isinstance(answer, Finding):
                yield rule, answer
            else:
                yield from ((rule, finding) for finding in answer or [])

    def refuse_unknown(self, names: Iterable[str], parameter: str, remedy: str | UserMessage) -> None:
        """Raises ConfigError if a name that a parameter gives is no rule."""
        for name in names:
            if name not in self.rules:
                raise ConfigError(
                    "{parameter}={name} is no rule.{hint} {remedy}",
                    parameter=parameter, name=name, hint=suggest_similar(name, self.rules), remedy=remedy,
                )
