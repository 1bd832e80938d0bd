"""The rules of throughput.py: waiting for data."""

from __future__ import annotations

import pytest
from tests.monitor.rules.series import SFT, Cases, check_complete, check_found, join_text, judge, list_cases

from fulgurite.monitor.history import TrainingFacts

FOUND: Cases = {
    "data-waits": [
        ("longer", TrainingFacts(SFT, waited=4.0, computed=2.0, timed=20)),
    ],
}
NOT_FOUND: Cases = {
    "data-waits": [
        ("shorter", TrainingFacts(SFT, waited=1.9, computed=2.0, timed=20)),
        ("too early", TrainingFacts(SFT, waited=4.0, computed=2.0, timed=19)),
        ("next to nothing", TrainingFacts(SFT, waited=0.09, computed=0.01, timed=20)),
    ],
}


def test_every_rule_has_cases() -> None:
    check_complete("throughput", FOUND, NOT_FOUND)


@pytest.mark.parametrize(("rule", "case"), list_cases(FOUND))
def test_rule_finds_the_trouble_in_one_sentence_with_a_remedy(rule: str, case: str) -> None:
    check_found(rule, dict(FOUND[rule])[case])


@pytest.mark.parametrize(("rule", "case"), list_cases(NOT_FOUND))
def test_rule_finds_nothing_in_healthy_numbers(rule: str, case: str) -> None:
    assert judge(rule, dict(NOT_FOUND[rule])[case]) is None


def test_sentence_has_milliseconds_of_a_step() -> None:
    # 4 s and 2 s in 20 steps
    text = join_text("data-waits", FOUND, "longer")
    assert text.startswith("A step waits 200 ms for its data and computes for 100 ms.")
