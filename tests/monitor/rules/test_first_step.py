"""The rules of first_step.py: the first loss, and losses of nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from tests.monitor.rules.series import (
    DPO,
    GRPO,
    RM,
    SFT,
    Cases,
    check_complete,
    check_found,
    join_text,
    judge,
    list_cases,
    record_steps,
)

from fulgurite.monitor.history import TrainingFacts
from fulgurite.rules.registry import Severity

FOUND: Cases = {
    "step-zero": [
        ("above chance", TrainingFacts(SFT, record_steps([math.log(50_000) + 1.01]))),
        ("known already", TrainingFacts(SFT, record_steps([0.04]))),
        ("a reward head that is not new", TrainingFacts(RM, record_steps([0.80]))),
    ],
    "labels-empty": [
        ("masked", TrainingFacts(SFT, record_steps([0.0], labels=0))),
        ("all cut", TrainingFacts(GRPO, record_steps([0.0], labels=0))),
    ],
    "loss-zero": [
        ("sft", TrainingFacts(SFT, record_steps([2, 1e-7, 0.0, 0.0]))),
        ("pairs", TrainingFacts(DPO, record_steps([0.6, 1e-7, 0.0, 0.0]))),
    ],
}
NOT_FOUND: Cases = {
    "step-zero": [
        ("chance", TrainingFacts(SFT, record_steps([math.log(50_000) + 0.9]))),
        ("usual", TrainingFacts(SFT, record_steps([2.0]))),
        ("few labels", TrainingFacts(SFT, record_steps([14.0], labels=63))),
        ("the second step", TrainingFacts(SFT, record_steps([2.0, 15.0]))),
        ("dft", TrainingFacts(replace(SFT, loss="dft"), record_steps([0.01]))),
        ("ln 2", TrainingFacts(RM, record_steps([0.6931]))),
        ("a head of its own", TrainingFacts(replace(RM, new_head=False), record_steps([0.40]))),
        ("pairs with margins", TrainingFacts(replace(RM, margins=True), record_steps([1.3]))),
        ("dpo, which checks itself", TrainingFacts(DPO, record_steps([25.0]))),
    ],
    "labels-empty": [
        ("one label", TrainingFacts(SFT, record_steps([2.0], labels=1))),
        ("privacy", TrainingFacts(replace(SFT, private=True), record_steps([0], labels=0))),
    ],
    "loss-zero": [
        ("twice", TrainingFacts(SFT, record_steps([2, 0.0, 0.0]))),
        ("small", TrainingFacts(SFT, record_steps([2e-6] * 3))),
        ("grpo", TrainingFacts(GRPO, record_steps([0.0] * 9))),
        ("hinge", TrainingFacts(replace(DPO, loss="hinge"), record_steps([0.0] * 9))),
    ],
}


def test_every_rule_has_cases() -> None:
    check_complete("first_step", FOUND, NOT_FOUND)


@pytest.mark.parametrize(("rule", "case"), list_cases(FOUND))
def test_rule_finds_the_trouble_in_one_sentence_with_a_remedy(rule: str, case: str) -> None:
    check_found(rule, dict(FOUND[rule])[case])


@pytest.mark.parametrize(("rule", "case"), list_cases(NOT_FOUND))
def test_rule_finds_nothing_in_healthy_numbers(rule: str, case: str) -> None:
    assert judge(rule, dict(NOT_FOUND[rule])[case]) is None


def test_sentence_has_the_loss_of_a_model_that_knows_nothing() -> None:
    assert "has ln(50,000) = 10.82" in join_text("step-zero", FOUND, "above chance")


def test_finding_is_milder_than_its_rule_if_the_run_may_go_on() -> None:
    severity = {case: judge(rule, facts).severity for rule, cases in FOUND.items() for case, facts in cases}
    assert severity == {
        "above chance": None, "known already": Severity.warning, "a reward head that is not new": None, "masked": None,
        "all cut": Severity.warning, "sft": None, "pairs": Severity.warning,
    }
