"""The rules of samples.py: what the model answers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.monitor.rules.series import PROSE, SFT, Cases, check_complete, check_found, judge, list_cases, sample_rows

from fulgurite.monitor.history import TrainingFacts
from fulgurite.monitor.rules.samples import measure_repetition

LOOP = "and so on and on " * 20
ANSWERS = [f"an answer {n}" for n in range(5)]
BEFORE = sample_rows(ANSWERS, 0)
FOUND: Cases = {
    "samples-endless": [
        (
            "four of five",
            TrainingFacts(SFT, samples=sample_rows([PROSE] * 5, stopped=[True, False, False, False, False])),
        ),
        (
            "early, where they did end",
            TrainingFacts(SFT, samples=sample_rows([PROSE] * 5, 0) + sample_rows([PROSE] * 5, 10, stopped=False)),
        ),
    ],
    "samples-repeat": [
        ("four of five", TrainingFacts(SFT, samples=sample_rows([PROSE] * 5, 0) + sample_rows([PROSE] + [LOOP] * 4))),
    ],
    "samples-collapse": [
        ("empty", TrainingFacts(SFT, samples=BEFORE + sample_rows([""] * 5, 10))),
        ("one token", TrainingFacts(SFT, samples=BEFORE + sample_rows(["the " * 9, "!" * 9, "好" * 9], 10))),
        ("one answer", TrainingFacts(SFT, samples=BEFORE + sample_rows([PROSE] * 5, 10))),
        ("one short answer", TrainingFacts(SFT, samples=BEFORE + sample_rows(["Yes."] * 5, 10))),
    ],
    "before-after": [
        ("the same", TrainingFacts(SFT, samples=BEFORE + sample_rows(ANSWERS))),
    ],
}
NOT_FOUND: Cases = {
    "samples-endless": [
        ("three of five", TrainingFacts(SFT, samples=sample_rows([PROSE] * 5, stopped=[True] * 2 + [False] * 3))),
        ("early in the run", TrainingFacts(SFT, samples=sample_rows([PROSE] * 5, 499, stopped=False))),
        (
            "early, as before",
            TrainingFacts(
                SFT,
                samples=sample_rows([PROSE] * 5, 0, stopped=False) + sample_rows([PROSE] * 5, 499, stopped=False),
            ),
        ),
        (
            "trained answers are longer",
            TrainingFacts(replace(SFT, answer_tokens=65), samples=sample_rows([PROSE] * 5, stopped=False)),
        ),
        ("running text", TrainingFacts(replace(SFT, stage="pt"), samples=sample_rows([PROSE] * 5, stopped=False))),
    ],
    "samples-repeat": [
        (
            "as before",
            TrainingFacts(SFT, samples=sample_rows([LOOP] * 4 + [PROSE], 0) + sample_rows([PROSE] + [LOOP] * 4)),
        ),
        (
            "three of five",
            TrainingFacts(SFT, samples=sample_rows([PROSE] * 5, 0) + sample_rows([PROSE] * 2 + [LOOP] * 3)),
        ),
        ("before training", TrainingFacts(SFT, samples=sample_rows([LOOP] * 5, 0))),
    ],
    "samples-collapse": [
        ("as before", TrainingFacts(SFT, samples=sample_rows([""] * 5, 0) + sample_rows([""] * 5, 10))),
        (
            "of another kind before",
            TrainingFacts(SFT, samples=sample_rows([""] * 5, 0) + sample_rows(["A" * 40] * 5, 10)),
        ),
        ("before training", TrainingFacts(SFT, samples=sample_rows([PROSE] * 5, 0))),
        ("labels", TrainingFacts(replace(SFT, answer_tokens=9), samples=BEFORE + sample_rows(["Yes."] * 5, 10))),
        ("one differs", TrainingFacts(SFT, samples=BEFORE + sample_rows([PROSE] * 4 + ["No."], 10))),
        ("two prompts", TrainingFacts(SFT, samples=sample_rows(["a", "b"], 0) + sample_rows(["", ""], 10))),
    ],
    "before-after": [
        ("one of five differs", TrainingFacts(SFT, samples=BEFORE + sample_rows([*ANSWERS[:4], "new"]))),
        ("nothing was drawn after", TrainingFacts(SFT, samples=BEFORE)),
        ("two prompts", TrainingFacts(SFT, samples=sample_rows(["a", "b"], 0) + sample_rows(["a", "b"]))),
    ],
}


def test_every_rule_has_cases() -> None:
    check_complete("samples", FOUND, NOT_FOUND)


@pytest.mark.parametrize(("rule", "case"), list_cases(FOUND))
def test_rule_finds_the_trouble_in_one_sentence_with_a_remedy(rule: str, case: str) -> None:
    check_found(rule, dict(FOUND[rule])[case])


@pytest.mark.parametrize(("rule", "case"), list_cases(NOT_FOUND))
def test_rule_finds_nothing_in_healthy_numbers(rule: str, case: str) -> None:
    assert judge(rule, dict(NOT_FOUND[rule])[case]) is None


def test_repetition_by_hand() -> None:
    # 20 pieces have 17 4-grams, and "a b c d" in a circle has four that differ
    assert measure_repetition("a b c d " * 5) == pytest.approx(1 - 4 / 17)
    assert measure_repetition("学习率" * 7) == pytest.approx(1 - 3 / 18)
    assert measure_repetition("a b c d " * 4) == 0  # 13 are too few
    assert measure_repetition(PROSE) == 0
