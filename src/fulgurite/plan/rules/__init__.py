"""The rules of `fulgurite plan`, one file per theme: small functions of `PlanFacts`."""

from __future__ import annotations

import os
import pkgutil

from fulgurite.plan.context import PlanFacts
from fulgurite.plan.diagnostic import Trouble
from fulgurite.rules.registry import Registry, Severity

UNUSUAL = "value.unusual"
"""The rule of values outside their usual ranges: any other rule about the same parameter replaces it."""
ORDER = tuple(Severity)
"""From the worst to the mildest."""
REGISTRY: Registry[PlanFacts] = Registry()
rule = REGISTRY.add
RULES = REGISTRY.rules
"""Every rule by its id, in the order of the files and of their lines."""


def find_troubles(seen: PlanFacts) -> list[Trouble]:
    """Returns the findings of every rule, errors first, then in the order of the rules.

    The trial of a search may try anything: its validation loss judges it, and nothing that can be allowed is refused.
    """
    is_trial = seen.run.sweep.trial is not None or "WANDB_SWEEP_ID" in os.environ  # as W&B's agent sets it
    troubles = []
    for known, finding in REGISTRY.find(seen):
        severity = finding.severity or known.severity
        may_insist = known.insist or severity is not Severity.error
        allowed = (known.insist and is_trial) or (known.id in seen.run.plan.allow and may_insist)
        troubles.append(Trouble(known.id, severity, finding.sentence, str(finding.remedy), allowed, finding.about))
    return sorted(_drop_repeated(troubles), key=lambda trouble: ORDER.index(trouble.severity))


def _drop_repeated(troubles: list[Trouble]) -> list[Trouble]:
    """Drops the findings about values outside their usual ranges if another rule judges the same parameter."""
    others = [trouble for trouble in troubles if trouble.rule != UNUSUAL]
    judged = {name for t in others for name in (RULES[t.rule].about, t.about)} - {""}
    return [t for t in troubles if t.rule != UNUSUAL or t.about not in judged]


REGISTRY.load(__name__, sorted(module.name for module in pkgutil.iter_modules(__path__)))
