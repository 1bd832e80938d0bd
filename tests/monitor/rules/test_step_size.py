"""The rules of step_size.py: gradients that are clipped, and weights that move too little or too much."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.monitor.rules.series import (
    BF16,
    DPO,
    FALLING,
    SFT,
    Cases,
    check_complete,
    check_found,
    join_text,
    judge,
    list_cases,
    record_steps,
    record_updates,
)

from fulgurite.monitor.history import TrainingFacts

FOUND: Cases = {
    "clip-share": [
        (
            "two of three",
            TrainingFacts(SFT, record_steps(FALLING[:100], clipped=[n % 3 > 0 for n in range(100)], grad_norm=2.5)),
        ),
    ],
    "norm-high": [
        ("always", TrainingFacts(SFT, record_steps(FALLING[:40], grad_norm=150.0))),
        ("wild at once", TrainingFacts(SFT, record_steps(FALLING[:3], grad_norm=1500.0))),
    ],
    "adapter-moves": [
        ("nothing at all", TrainingFacts(SFT, record_updates({1: 0.0, 2: 0.0}))),
        ("next to nothing", TrainingFacts(SFT, record_updates({1: 5e-8, 2: 6e-8, 4: 6e-8}))),
    ],
    "rounded-away": [
        ("84 %", TrainingFacts(BF16, record_steps(FALLING[:10], unchanged=0.84))),
        (
            "muon",
            TrainingFacts(replace(BF16, alone=False), record_steps(FALLING[:30], unchanged=[0.3] * 20 + [0.51] * 10)),
        ),
    ],
    "update-high": [
        ("a third", TrainingFacts(SFT, record_updates({1: 0.4, 8: 0.4, 16: 0.35}))),
        ("all of it at once", TrainingFacts(SFT, record_updates({1: 0.6}))),
        ("at a low rate", TrainingFacts(SFT, record_updates({1: 0.0, 2: 0.7}, lr=1e-6))),
        ("began at zero", TrainingFacts(SFT, record_updates({2: 1.0, 64: 0.6}))),
    ],
}
NOT_FOUND: Cases = {
    "clip-share": [
        ("half", TrainingFacts(SFT, record_steps(FALLING[:100], clipped=[n % 2 for n in range(100)]))),
        (
            "in the warmup",
            TrainingFacts(replace(SFT, warmup=60), record_steps(FALLING[:110], clipped=[n < 60 for n in range(110)])),
        ),
        ("privacy", TrainingFacts(replace(SFT, private=True), record_steps(FALLING[:100], clipped=1.0))),
    ],
    "norm-high": [
        ("one step", TrainingFacts(SFT, record_steps(FALLING[:40], grad_norm=[1.0] * 39 + [1e4]))),
        ("high", TrainingFacts(SFT, record_steps(FALLING[:40], grad_norm=90.0))),
        ("wild twice", TrainingFacts(SFT, record_steps(FALLING[:2], grad_norm=1500.0))),
    ],
    "adapter-moves": [
        ("warmup begins at rate 0", TrainingFacts(SFT, record_updates({1: 0.0, 2: 1e-3}))),
        ("rate 0", TrainingFacts(SFT, record_updates({1: 0.0, 2: 0.0}, lr=0.0))),
        ("dpo at 5e-7", TrainingFacts(DPO, record_updates({16: 1e-5, 32: 1e-5, 64: 1e-5}))),
        ("late in a cosine", TrainingFacts(SFT, record_updates({16: 1e-3, 32: 1e-3, 64: 1e-8}))),
        ("too early to say", TrainingFacts(SFT, record_updates({1: 5e-8, 2: 5e-8}))),
    ],
    "rounded-away": [
        ("too early", TrainingFacts(BF16, record_steps(FALLING[:9], unchanged=0.84))),
        ("half", TrainingFacts(BF16, record_steps(FALLING[:30], unchanged=0.5))),
        ("one step less", TrainingFacts(BF16, record_steps(FALLING[:30], unchanged=[0.84] * 25 + [0.4] + [0.84] * 4))),
        ("by chance, or Kahan", TrainingFacts(SFT, record_steps(FALLING[:30], unchanged=0.84))),
        ("fp32", TrainingFacts(BF16, record_steps(FALLING[:30]))),
        ("late in a cosine", TrainingFacts(replace(BF16, lr=3e-4), record_steps(FALLING[:30], unchanged=0.84))),
    ],
    "update-high": [
        ("usual", TrainingFacts(SFT, record_updates({1: 8e-3, 8: 7e-3, 16: 5e-3}))),
        ("once", TrainingFacts(SFT, record_updates({1: 0.4, 8: 0.4, 16: 0.1}))),
        ("began at zero", TrainingFacts(SFT, record_updates({2: 1.0, 8: 0.4, 16: 0.35}))),
        ("LoRA+", TrainingFacts(replace(SFT, multiplied=True), record_updates({1: 0.7, 2: 0.6, 8: 0.2, 16: 0.1}))),
    ],
}


def test_every_rule_has_cases() -> None:
    check_complete("step_size", FOUND, NOT_FOUND)


@pytest.mark.parametrize(("rule", "case"), list_cases(FOUND))
def test_rule_finds_the_trouble_in_one_sentence_with_a_remedy(rule: str, case: str) -> None:
    check_found(rule, dict(FOUND[rule])[case])


@pytest.mark.parametrize(("rule", "case"), list_cases(NOT_FOUND))
def test_rule_finds_nothing_in_healthy_numbers(rule: str, case: str) -> None:
    assert judge(rule, dict(NOT_FOUND[rule])[case]) is None


def test_sentence_of_clipping_has_share_and_norm() -> None:
    assert join_text("clip-share", FOUND, "two of three").startswith(
        "67% of the last 90 steps were clipped: the median gradient norm is 2.5, and trainer.max_grad_norm=1. "
        "The logged norm is the one before clipping."
    )


def test_remedy_of_rounding_depends_on_the_optimizer() -> None:
    assert join_text("rounded-away", FOUND, "84 %") == (
        "84% of the trained weights did not change in each of the last 10 steps: at optim.lr=0.0001 a step is rounded "
        "away to the nearest bf16 number. Use precision.rounding=stochastic (or kahan), or a higher optim.lr."
    )
    muon = join_text("rounded-away", FOUND, "muon")
    assert "Use precision=bf16, or optim=adamw precision.rounding=stochastic, or" in muon
