"""The rules of preferences.py: pairs and groups."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.monitor.rules.series import (
    DPO,
    GRPO,
    RM,
    Cases,
    check_complete,
    check_found,
    compare_rewards,
    join_text,
    judge,
    list_cases,
    record_steps,
)

from fulgurite.monitor.history import About, TrainingFacts

FOUND: Cases = {
    "dpo-falls": [
        ("against the reference", compare_rewards(DPO, 60, lambda n: -0.02 * n, lambda n: -0.03 * n)),
        (
            "without one",
            compare_rewards(replace(DPO, loss="simpo", paired=False), 60, lambda n: -0.02 * n, lambda n: -0.03 * n),
        ),
    ],
    "dpo-wrong": [
        ("swapped", compare_rewards(DPO, 100, lambda n: -0.01 * n, lambda n: 0.01 * n, accuracy=0.3)),
        ("early", compare_rewards(DPO, 20, lambda n: -0.01 * n, lambda n: 0.01 * n, accuracy=0.1)),
    ],
    "rm-stuck": [
        ("a coin", TrainingFacts(RM, record_steps([0.69] * 200, accuracy=[0.45 + 0.1 * (n % 2) for n in range(200)]))),
        ("a short run, at its end", TrainingFacts(replace(RM, total=50), record_steps([0.69] * 50, accuracy=0.51))),
        ("worse", TrainingFacts(RM, record_steps([0.8] * 200, accuracy=0.2))),
        ("worse, early", TrainingFacts(RM, record_steps([0.8] * 20, accuracy=0.2, reward_margin=-0.3))),
    ],
    "ties": [
        ("five rollouts", TrainingFacts(GRPO, record_steps([0.0] * 10, ties=0.9))),
    ],
}
NOT_FOUND: Cases = {
    "dpo-falls": [
        ("chosen rises", compare_rewards(DPO, 60, lambda n: 0.02 * n, lambda n: -0.03 * n)),
        ("a little", compare_rewards(DPO, 60, lambda n: -0.005 * n, lambda n: -0.03 * n)),
        ("the margin does not grow", compare_rewards(DPO, 60, lambda n: -0.02 * n, lambda n: -0.01 * n)),
        (
            "apo_down means it",
            compare_rewards(replace(DPO, loss="apo_down"), 60, lambda n: -0.02 * n, lambda n: -0.03 * n),
        ),
    ],
    "dpo-wrong": [
        ("a coin", compare_rewards(DPO, 100, lambda n: 0.0, lambda n: 0.0, accuracy=0.5)),
        ("by chance", compare_rewards(DPO, 100, lambda n: 0.0, lambda n: 0.0, accuracy=0.475)),
        ("margins of nothing", compare_rewards(DPO, 99, lambda n: 0.0, lambda n: 0.0, accuracy=0.0)),
        ("too early", compare_rewards(DPO, 19, lambda n: -0.01 * n, lambda n: 0.01 * n, accuracy=0.1)),
        ("early, by chance", compare_rewards(DPO, 20, lambda n: -0.01 * n, lambda n: 0.01 * n, accuracy=0.42)),
    ],
    "rm-stuck": [
        ("learning", TrainingFacts(RM, record_steps([0.6] * 200, accuracy=0.62))),
        ("a step early", TrainingFacts(RM, record_steps([0.69] * 199, accuracy=0.5))),
        ("a new head", TrainingFacts(RM, record_steps([0.693] * 40, accuracy=0.0, reward_margin=0.0))),
        ("learned late", TrainingFacts(RM, record_steps([0.6] * 200, accuracy=[0.5] * 100 + [0.7] * 100))),
    ],
    "ties": [
        ("four rollouts", TrainingFacts(GRPO, record_steps([0.0] * 8, ties=0.9))),
        ("one differs", TrainingFacts(GRPO, record_steps([0.0] * 10, ties=[0.9] * 4 + [0.5] * 2 + [0.9] * 4))),
        ("ppo has none", TrainingFacts(About("ppo"), record_steps([0.0] * 10))),
    ],
}


def test_every_rule_has_cases() -> None:
    check_complete("preferences", FOUND, NOT_FOUND)


@pytest.mark.parametrize(("rule", "case"), list_cases(FOUND))
def test_rule_finds_the_trouble_in_one_sentence_with_a_remedy(rule: str, case: str) -> None:
    check_found(rule, dict(FOUND[rule])[case])


@pytest.mark.parametrize(("rule", "case"), list_cases(NOT_FOUND))
def test_rule_finds_nothing_in_healthy_numbers(rule: str, case: str) -> None:
    assert judge(rule, dict(NOT_FOUND[rule])[case]) is None


def test_sentence_of_a_stuck_reward_model_has_the_values_of_guessing() -> None:
    assert "no better than guessing, which has 50 % and ln 2 = 0.693" in join_text("rm-stuck", FOUND, "a coin")


def test_fall_of_the_chosen_answer_by_hand() -> None:
    # 40 steps of -0.02 at beta 0.1 from the middle of the first window to that of the last: 8 nats of 50 + 1.9
    text = join_text("dpo-falls", FOUND, "against the reference")
    assert "has lost 8 of 51.9 nats, and the margin grows (0.095 → 0.495)" in text
