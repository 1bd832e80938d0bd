"""All rules of plan/rules together: each has tests, a derived run has no trouble, and nothing is reported twice."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.plan.facts import build_facts
from tests.plan.rules.cases import DECIDED_BY_FACTS, Case, data, describe

from fulgurite.config.schema import walk_settings
from fulgurite.plan.context import DataFacts, PlanFacts
from fulgurite.plan.rules import ORDER, RULES, UNUSUAL, find_troubles


def test_every_file_with_rules_has_its_tests() -> None:
    modules = {check.__module__.rpartition(".")[2] for rule in RULES.values() for check in rule.checks.values()}
    for module in modules:
        text = (Path(__file__).parent / f"test_{module}.py").read_text(encoding="utf-8")
        assert f'check_complete("{module}"' in text or f'rules_of("{module}")' in text


@pytest.mark.parametrize("stage", ["sft", "pt", "dpo", "kto", "rm", "grpo stage.reward=[length:50]"])
@pytest.mark.parametrize("method", ["lora", "qlora", "full", "freeze", "oft", "vera"])
@pytest.mark.parametrize("optim", ["adamw", "lion", "sgd"])
def test_derived_values_lead_to_notes_at_most(stage: str, method: str, optim: str) -> None:
    words = f"stage={stage} method={method} optim={optim}".split()
    found = find_troubles(build_facts(*words, data=data(positives=5500, negatives=5000)))
    assert [trouble for trouble in found if trouble.severity != "note"] == []


def test_unusual_value_is_not_reported_if_another_rule_judges_it() -> None:
    run = build_facts("optim.lr=5e-5", "trainer.keep_checkpoints=9")
    assert [found.parameter for found in run.unusual] == ["optim.lr", "trainer.keep_checkpoints"]
    assert [(t.rule, str(t.sentence).partition("=")[0]) for t in find_troubles(run)] == [
        ("rate.low-for-lora", "optim.lr"), ("value.unusual", "trainer.keep_checkpoints"),
    ]


def test_errors_come_first() -> None:
    run = build_facts("optim.lr=5e-2", "trainer.keep_checkpoints=9", data=data(sources=["a.jsonl"], val_rows=0))
    severities = [str(trouble.severity) for trouble in find_troubles(run)]
    assert severities == sorted(severities, key=["error", "warning", "note"].index)
    assert {"error", "warning", "note"} == set(severities)


def test_trial_of_a_search_is_refused_nothing_that_can_be_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    run = build_facts("optim.lr=5e-2")
    assert [trouble.rule for trouble in find_troubles(run) if trouble.refuses] == ["rate.out-of-band"]
    monkeypatch.setenv("WANDB_SWEEP_ID", "abcd1234")
    assert [trouble.rule for trouble in find_troubles(run) if trouble.refuses] == []


STEPS = [
    Case("steps.too-few", words, {"data": DataFacts(rows=rows, val_rows=9, sources=["a", "b"])})
    for words in (
        "", "trainer.epochs=3", "trainer.global_batch_size=64", "trainer.epochs=1 stage=rm",
        "trainer.epochs=2 stage=rm",
    )
    for rows in (60, 91, 500, 1500)
]
PATIENCE = [
    Case("steps.patience", f"trainer.early_stopping_patience=4 trainer.eval_every={every}") for every in (200, 900)
]
UNUSUAL_VALUES = [
    Case(UNUSUAL, words) for words in (
        "trainer.keep_checkpoints=9", "optim.weight_decay=0.5", "trainer.max_grad_norm=50",
        "stage=dpo stage.loss=simpo stage.gamma=4", "stage=dpo stage.sft_weight=3", "method.dropout=0.4",
    )
]


def _list_cases() -> Iterator[Case]:
    modules = {check.__module__.rpartition(".")[2] for rule in RULES.values() for check in rule.checks.values()}
    for name in sorted(modules):
        yield from getattr(importlib.import_module(f"tests.plan.rules.test_{name}"), "FOUND", [])
    yield from (*STEPS, *PATIENCE, *UNUSUAL_VALUES)


def _plan(words: list[str], case: Case) -> PlanFacts:
    """The facts of a case; its steps follow from batch and epochs if the rule is about them."""
    seen = build_facts(*words, **case.facts)
    if case in STEPS:
        assert seen.data is not None
        trainer = seen.run.trainer
        steps = math.ceil(math.ceil(seen.data.rows / trainer.global_batch_size) * trainer.epochs)
        seen = build_facts(*words, steps=steps, **case.facts)
    return seen


@pytest.mark.parametrize("case", list(_list_cases()), ids=describe)
def test_remedy_mends_its_finding_and_brings_no_other(case: Case) -> None:
    """Whoever pastes a remedy is not told of the next trouble by another rule, or by the same."""
    before = find_troubles(_plan(case.overrides.split(), case))
    found = next((trouble for trouble in before if trouble.rule == case.rule), None)
    if found is None:
        assert case in STEPS  # of so many examples
        return
    if not found.remedy:
        return
    changed = {word.partition("=")[0] for word in found.overrides}
    kept = [word for word in case.overrides.split() if word.partition("=")[0] not in changed]
    after = find_troubles(_plan([*kept, *found.overrides], case))
    known = {(trouble.rule, trouble.about) for trouble in before}
    new = [t for t in after if t.severity != "note" and not t.allowed and (t.rule, t.about) not in known]
    assert new == []
    left = next((trouble for trouble in after if (trouble.rule, trouble.about) == (found.rule, found.about)), None)
    if case.rule not in DECIDED_BY_FACTS and left is not None and not left.allowed:
        assert case in STEPS
        assert ORDER.index(left.severity) >= ORDER.index(found.severity)
        assert left.sentence != found.sentence


@pytest.mark.parametrize("case", list(_list_cases()), ids=describe)
def test_remedies_of_one_plan_agree(case: Case) -> None:
    """No finding asks for more of a parameter of which another asks for less."""
    seen = _plan(case.overrides.split(), case)
    now = {knob.path: value for knob, value in walk_settings(seen.run)}
    ways: dict[str, set[bool]] = {}
    for trouble in find_troubles(seen):
        for name, _, text in (word.partition("=") for word in trouble.overrides):
            if isinstance(now.get(name), int | float) and text.replace(".", "").replace("e-", "").isdecimal():
                ways.setdefault(name, set()).add(float(text) > now[name])
    assert [name for name, found in ways.items() if len(found) > 1] == []
