"""The rules of loss_curve.py: a loss that rises, stays, or rises in validation alone."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from tests.monitor.rules.series import (
    DPO,
    FALLING,
    GRPO,
    SFT,
    Cases,
    check_complete,
    check_found,
    join_text,
    judge,
    list_cases,
    record_evaluations,
    record_steps,
)

from fulgurite.monitor.history import About, History, TrainingFacts
from fulgurite.monitor.rules import RULES, Moment
from fulgurite.monitor.rules.loss_curve import suggest_higher, suggest_lower

PAIRS = [0.6 + 0.2 * (-1) ** n for n in range(40)]
NOISE = [2.0 + 3 * (n % 7 == 0) for n in range(30)] + [2.0 + 3 * (n % 4 == 0) for n in range(20)]
FOUND: Cases = {
    "above-chance": [
        ("five in a row", TrainingFacts(SFT, record_steps([3.0, 12.0, 13.0, 14.0, 15.0, 16.0]))),
    ],
    "val-not-finite": [
        ("nan", TrainingFacts(SFT, record_evaluations((2, math.nan)))),
        ("inf", TrainingFacts(SFT, record_evaluations((2, 1.9), (1.5, math.inf)))),
    ],
    "spike": [
        ("up and stays", TrainingFacts(SFT, record_steps([*FALLING[:40], 9, 9]))),
        ("from the second step", TrainingFacts(SFT, record_steps([2.0, 6.0, 7.0]))),
        ("after few", TrainingFacts(SFT, record_steps([2.0, 2.1, 2.0, 5.0, 5.0]))),
        ("twice the median", TrainingFacts(SFT, record_steps([2.0] * 40 + [5.0] * 2))),
        (
            "a squared loss",
            TrainingFacts(About("dpo", "ipo"), record_steps([25.0 + (-1) ** n for n in range(30)] + [90.0] * 2)),
        ),
        ("single pairs", TrainingFacts(replace(DPO, batch_size=1), record_steps(PAIRS + [5.0] * 16))),
    ],
    "diverged": [
        ("slowly", TrainingFacts(SFT, record_steps([2 + 0.05 * (-1) ** n + 0.02 * n for n in range(60)]))),
        ("above chance", TrainingFacts(SFT, record_steps([10.8, 26.0]))),
        ("above chance of few labels", TrainingFacts(SFT, record_steps([10.8, 26.0], labels=8))),
        (
            "in the warmup",
            TrainingFacts(replace(SFT, warmup=100), record_steps([2 + 0.05 * (-1) ** n + 0.02 * n for n in range(60)])),
        ),
    ],
    "plateau": [
        ("flat", TrainingFacts(SFT, record_steps([2 + 0.01 * (-1) ** n for n in range(110)]))),
        (
            "a short run, at its end",
            TrainingFacts(replace(SFT, total=60), record_steps([2 + 0.01 * (-1) ** n for n in range(60)])),
        ),
        ("dpo at ln 2", TrainingFacts(DPO, record_steps([0.6931 + 1e-5 * (-1) ** n for n in range(100)]))),
    ],
    "overfit": [
        (
            "three rises",
            TrainingFacts(SFT, record_evaluations((2, 1.9), (1.5, 1.5), (1.2, 1.55), (0.9, 1.6), (0.6, 1.7))),
        ),
    ],
}
NOT_FOUND: Cases = {
    "above-chance": [
        ("four in a row", TrainingFacts(SFT, record_steps([3.0, 12.0, 13.0, 14.0, 15.0]))),
        ("one back", TrainingFacts(SFT, record_steps([3.0, 12.0, 13.0, 11.0, 15.0, 16.0]))),
        ("a first loss as high", TrainingFacts(SFT, record_steps([15.5, 16.0, 16.0, 16.0, 16.0, 16.0]))),
        ("pairs", TrainingFacts(DPO, record_steps([0.7, 12.0, 13.0, 14.0, 15.0, 16.0]))),
        ("few labels", TrainingFacts(SFT, record_steps([3.0] + [13.0] * 5, labels=8))),
    ],
    "val-not-finite": [
        ("a number", TrainingFacts(SFT, record_evaluations((2, 1.9)))),
    ],
    "spike": [
        ("falling", TrainingFacts(SFT, record_steps(FALLING))),
        ("one", TrainingFacts(SFT, record_steps([*FALLING[:40], 9]))),
        ("small losses", TrainingFacts(SFT, record_steps([0.05] * 40 + [0.4] * 5))),
        ("grpo", TrainingFacts(GRPO, record_steps([0.1] * 40 + [9.0] * 5))),
        ("examples that differ", TrainingFacts(replace(SFT, batch_size=1), record_steps([2.0, 5.0, 5.5]))),
        ("noise", TrainingFacts(SFT, record_steps([2.0 + 3 * (n % 4 == 0) for n in range(40)] + [5.0] * 2))),
        ("above chance, which diverged says", TrainingFacts(SFT, record_steps([2.0] * 40 + [26.0] * 2))),
        (
            "a squared loss",
            TrainingFacts(About("dpo", "ipo"), record_steps([25.0 + 5 * (-1) ** n for n in range(30)] + [70.0] * 2)),
        ),
        ("a pair or two", TrainingFacts(replace(DPO, batch_size=1), record_steps(PAIRS + [5.0] * 15))),
    ],
    "diverged": [
        ("chance", TrainingFacts(SFT, record_steps([10.8, 11.7]))),
        ("the first step, which step-zero judges", TrainingFacts(SFT, record_steps([26.0]))),
        ("a row that is new to a model of few", TrainingFacts(SFT, record_steps([10.8, 6.0, 5.0, 4.0, 18.0]))),
        ("few labels", TrainingFacts(SFT, record_steps([10.8, 13.0], labels=8))),
        ("pairs", TrainingFacts(DPO, record_steps([0.7, 13.0]))),
        ("falling", TrainingFacts(SFT, record_steps(FALLING))),
        ("a little", TrainingFacts(SFT, record_steps([2.0] * 20 + [2.4] * 20))),
        ("noise", TrainingFacts(SFT, record_steps(NOISE))),
        ("ipo", TrainingFacts(About("dpo", "ipo"), record_steps([25.0] * 20 + [30.0] * 20))),
    ],
    "plateau": [
        ("falling", TrainingFacts(SFT, record_steps(FALLING[:110]))),
        ("a step early", TrainingFacts(SFT, record_steps([2.0] * 109))),
        ("too noisy to say", TrainingFacts(SFT, record_steps([2 + (-1) ** n for n in range(110)]))),
        (
            "dpo, slowly and surely",
            TrainingFacts(DPO, record_steps([0.6931 - 5e-5 * n + 1e-4 * (-1) ** n for n in range(100)])),
        ),
        ("shorter than judged", TrainingFacts(replace(SFT, total=29), record_steps([2.0] * 29))),
        ("ppo", TrainingFacts(About("ppo"), record_steps([0.0] * 100))),
    ],
    "overfit": [
        ("falling", TrainingFacts(SFT, record_evaluations((2, 1.9), (1.5, 1.5), (1.2, 1.4), (0.9, 1.35), (0.6, 1.3)))),
        ("two rises", TrainingFacts(SFT, record_evaluations((2, 1.9), (1.5, 1.5), (1.2, 1.55), (0.9, 1.6)))),
        (
            "training rises too",
            TrainingFacts(SFT, record_evaluations((2, 1.9), (1.5, 1.5), (1.6, 1.55), (1.7, 1.6), (1.8, 1.7))),
        ),
        (
            "by nothing",
            TrainingFacts(SFT, record_evaluations((2, 1.9), (1.5, 1.5), (1.2, 1.501), (0.9, 1.502), (0.6, 1.503))),
        ),
    ],
}


def test_every_rule_has_cases() -> None:
    check_complete("loss_curve", FOUND, NOT_FOUND)


@pytest.mark.parametrize(("rule", "case"), list_cases(FOUND))
def test_rule_finds_the_trouble_in_one_sentence_with_a_remedy(rule: str, case: str) -> None:
    check_found(rule, dict(FOUND[rule])[case])


@pytest.mark.parametrize(("rule", "case"), list_cases(NOT_FOUND))
def test_rule_finds_nothing_in_healthy_numbers(rule: str, case: str) -> None:
    assert judge(rule, dict(NOT_FOUND[rule])[case]) is None


def test_sentence_of_overfit_names_the_best_step() -> None:
    text = join_text("overfit", FOUND, "three rises")
    assert "(1.5 at step 20, 1.7 now)" in text
    assert "the best checkpoint is that of step 20" in text


@pytest.mark.parametrize(
    ("ratio", "adapter", "words", "remedy"),
    [
        (2e-5, True, "2.0e-05", "Raise optim.lr"), (1e-4, False, "1.0e-04", "The weights do change"),
        (5e-3, True, "0.50%", "The weights do change"),
    ],
)
def test_plateau_remedy_depends_on_the_update_ratio(ratio: float, adapter: bool, words: str, remedy: str) -> None:
    history = History()
    for n in range(110):
        record = {"train/loss": 2 + 0.01 * (-1) ** n, "train/lr": 1e-6}
        history.add(n + 1, record | ({"train/update_ratio": ratio} if n == 63 else {}), 500)
    finding = judge("plateau", TrainingFacts(replace(SFT, adapter=adapter, lr=1e-6), history))
    assert f"a step changes the trained weights by {words}" in str(finding.sentence)
    assert str(finding.remedy).startswith(remedy)


def test_validation_loss_above_chance_is_diverged_too() -> None:
    check = RULES.rules["diverged"].checks[Moment.evaluation]
    # ln(50,000) = 10.82, and a nat above it is the limit
    assert check(TrainingFacts(SFT, record_evaluations((2.0, 11.7)))) is None
    assert "The validation loss is 11.9" in str(check(TrainingFacts(SFT, record_evaluations((2.0, 11.9)))).sentence)


@pytest.mark.parametrize(("lr", "remedy"), [
    (1e-4, "Raise optim.lr to 0.0003."), (1e-3, "Raise optim.lr to 0.002."),
    (2e-3, "optim.lr=0.002 is at the top of the usual range already: train longer"),
])
def test_higher_rate_is_never_above_the_usual_range(lr: float, remedy: str) -> None:
    about = replace(SFT, lr=lr, lowest_lr=1e-4, highest_lr=2e-3)
    assert str(suggest_higher(about, 3)).startswith(remedy)
    assert ("method.rank" in str(suggest_higher(about, 3))) is (lr == 2e-3)
    assert "method.rank" not in str(suggest_higher(replace(about, adapter=False), 3))


@pytest.mark.parametrize(("lr", "lower"), [(2e-2, "0.002"), (5e-4, "0.0001"), (1e-4, "5e-05"), (1e-5, "5e-06")])
def test_lower_rate_is_a_tenth_and_usual_if_it_can_be(lr: float, lower: str) -> None:
    about = replace(SFT, lr=lr, lowest_lr=1e-4, highest_lr=2e-3)
    assert str(suggest_lower(about)) == f"Lower optim.lr to {lower} and start again."
