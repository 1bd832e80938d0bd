"""The rules: small functions of what is seen, one file a theme, each with its id, severity and where it comes from."""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass

from fulgurite.plan.context import Seen
from fulgurite.plan.diagnostic import Say, Severity, Trouble

Function = Callable[[Seen], Say | list[Say] | None]
UNUSUAL = "value.unusual"
"""The rule of values outside their usual ranges: any other rule about the same knob says it better."""
ORDER = tuple(Severity)
"""From the worst to the mildest."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A registered rule. `severity` is the worst that it says; `insist` is whether plan.allow lets an error of it through."""

    id: str
    severity: Severity
    source: str
    insist: bool
    words: str
    says: Function
    about: str = ""
    """The knob of which the rule says better than "outside what is usual" does."""


RULES: dict[str, Rule] = {}
"""Every rule by its id, in the order of the files and of their lines."""


def rule(
    id: str, severity: Severity | str, *, source: str, insist: bool = False, about: str = "",
) -> Callable[[Function], Function]:
    """Register a function of `Seen` that answers None, or what it has to say (several sentences as a list).

    Its docstring's first line tells `plan --rules` what for.
    `source` names where the rule comes from: a row of our list of troubles, a thread, a page. Raises ValueError for an id given twice.
    """

    def register(function: Function) -> Function:
        if id in RULES:
            raise ValueError(f"the rule {id} is there already, in {RULES[id].says.__module__}")
        words = (function.__doc__ or "").strip().partition("\n")[0]
        RULES[id] = Rule(id, Severity(severity), source, insist, words, function, about)
        return function

    return register


def speak(seen: Seen) -> list[Trouble]:
    """What every rule says of a run, errors first, then in the order of the rules.

    A trial of a search is there to be tried: its validation loss judges it, and what may be insisted on refuses nothing.
    """
    found, tried = [], seen.run.sweep.trial is not None or "WANDB_SWEEP_ID" in os.environ  # as W&B's agent sets it
    for known in RULES.values():
        answer = known.says(seen)
        for said in answer if isinstance(answer, list) else [answer] if answer is not None else []:
            severity = said.severity or known.severity
            allowed = (known.insist and tried) or (known.id in seen.run.plan.allow and (known.insist or severity is not Severity.error))
            found.append(Trouble(known.id, severity, said.sentence, said.remedy, allowed))
    return sorted(_once(found), key=lambda trouble: ORDER.index(trouble.severity))


def _once(troubles: list[Trouble]) -> list[Trouble]:
    """Without the sentences about values outside their usual ranges whose knob another rule has spoken of."""
    heard = {RULES[trouble.rule].about for trouble in troubles} - {""}
    return [t for t in troubles if t.rule != UNUSUAL or t.sentence.partition("=")[0] not in heard]


for _found in sorted(module.name for module in pkgutil.iter_modules(__path__)):
    importlib.import_module(f"{__name__}.{_found}")
