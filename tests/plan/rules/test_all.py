"""All rules of plan/rules together: each has tests, a derived run has no trouble, and nothing is reported twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.plan.facts import build_facts
from tests.plan.rules.cases import data

from fulgurite.plan.rules import RULES, find_troubles


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
    assert [(t.rule, t.sentence.partition("=")[0]) for t in find_troubles(run)] == [
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
