"""Cases for the rules of plan/rules: a run by its overrides and facts, and what a rule finds in it.

No training and no torch: a run is composed, and its facts are set by hand (tests/plan/facts.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.plan.facts import DATA, MODEL, build_facts, compose_once, find_trouble

from fulgurite.plan.context import DataFacts, Machine, Memory, MemoryPart, ModelFacts
from fulgurite.plan.rules import RULES

GB = 1_000_000_000
DECIDED_BY_FACTS = {
    "memory.train", "memory.replicas", "disk.checkpoints", "data.too-long", "data.no-end", "data.sampled",
    "data.no-validation", "rm.data", "data.beyond-model", "data.few-labels", "data.repeats", "precision.born-bf16",
    "resume.changed", "resume.finished", "device.nothing-fits", "export.template", "model.vocabulary",
}
"""Rules whose remedy changes what was measured, which a fact set by hand does not follow."""


@dataclass(frozen=True)
class Case:
    """A run by its overrides and facts; if the rule finds something: its severity, a part of its sentence, its
    remedy."""

    rule: str
    overrides: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    severity: str = ""
    part: str = ""
    remedy: str = ""


def model(**facts: Any) -> ModelFacts:
    return ModelFacts(**({**MODEL, "path": "my-model"} | facts))


def data(**facts: Any) -> DataFacts:
    return DataFacts(**({**DATA, "sources": ["a.jsonl", "b.jsonl"]} | facts))


def memory(training: float, evaluation: float = 1, rollouts: float | None = None) -> Memory:
    """Peaks in GB."""
    of_rollouts = None if rollouts is None else MemoryPart(weights=int(rollouts * GB))
    of_training = MemoryPart(weights=GB, activations=int((training - 1) * GB))
    return Memory(of_training, MemoryPart(weights=int(evaluation * GB)), of_rollouts)


def free(gigabytes: float, **facts: Any) -> Machine:
    return Machine(**({"device": "cuda", "name": "a GPU", "memory_free": int(gigabytes * GB)} | facts))


def describe(case: Case) -> str:
    """Names a case for pytest."""
    return f"{case.rule} {case.overrides} {'+'.join(case.facts)}".strip()


def rules_of(module: str) -> set[str]:
    """Returns the ids of the rules that a file of plan/rules declares."""
    path = f"fulgurite.plan.rules.{module}"
    return {name for name, rule in RULES.items() if any(check.__module__ == path for check in rule.checks.values())}


def check_found(case: Case) -> None:
    """Checks what the rule finds, and that its remedy can be pasted and mends it."""
    found = find_trouble(case.rule, build_facts(*case.overrides.split(), **case.facts))
    assert found is not None
    assert (found.severity, found.remedy) == (case.severity, case.remedy)
    assert case.part in str(found.sentence)
    assert str(found.sentence).endswith(".")
    pasted = found.remedy.split()
    if not pasted:
        return
    changed = {word.partition("=")[0] for word in pasted}
    words = [word for word in case.overrides.split() if word.partition("=")[0] not in changed]
    if case.rule in DECIDED_BY_FACTS:
        compose_once(*words, *pasted)
    else:
        assert find_trouble(case.rule, build_facts(*words, *pasted, **case.facts)) is None


def check_not_found(case: Case) -> None:
    """Checks that the rule finds nothing."""
    assert find_trouble(case.rule, build_facts(*case.overrides.split(), **case.facts)) is None


def check_complete(module: str, found: Sequence[Case], not_found: Sequence[Case]) -> None:
    """Checks that each rule of a file has cases of both kinds, and each that refuses a run a case with an error."""
    rules = rules_of(module)
    assert {case.rule for case in found} == rules
    assert {case.rule for case in not_found} == rules
    errors = {case.rule for case in found if case.severity == "error"}
    assert errors == {name for name in rules if RULES[name].severity == "error"}
