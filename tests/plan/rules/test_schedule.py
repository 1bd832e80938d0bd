"""The rules of schedule.py: the warmup and the curve of the learning rate."""

from __future__ import annotations

import pytest
from tests.plan.rules.cases import Case, check_complete, check_found, check_not_found, describe

FOUND = [
    Case(
        "warmup.none", "method=full scheduler.warmup_ratio=0", {}, "warning",
        "No warmup: the first steps have the full rate of 0.0001", "scheduler.warmup_ratio=0.03",
    ),
    Case("warmup.none", "stage=dpo scheduler.warmup_steps=0", {"steps": 50}, "warning", "", "scheduler.warmup_steps=2"),
    Case(
        "warmup.none", "scheduler.warmup_ratio=0", {"steps": 201}, "warning", "moments are still empty",
        "scheduler.warmup_ratio=0.03",
    ),
    Case(
        "warmup.too-long", "scheduler.warmup_steps=1000", {}, "error",
        "Warmup takes 1,000 of 1,000 steps: the rate 0.001 is never reached", "scheduler.warmup_steps=30",
    ),
    Case(
        "warmup.too-long", "scheduler.warmup_ratio=0.31", {"steps": 100}, "warning",
        "31 of 100 steps: the rate 0.001 is reached at 31%", "scheduler.warmup_ratio=0.1",
    ),
    Case(
        "warmup.too-long", "scheduler.warmup_steps=9 trainer.max_steps=4", {"steps": 4}, "warning", "never",
        "scheduler.warmup_steps=1",
    ),
    Case(
        "scheduler.same-as", "scheduler=cosine_with_restarts scheduler.cycles=1", {}, "warning",
        "is exactly the same curve as scheduler=cosine", "scheduler.cycles=2",
    ),
    Case(
        "scheduler.same-as", "scheduler=polynomial scheduler.power=1", {}, "warning",
        "scheduler=linear (largest difference", "scheduler.power=2",
    ),
    Case(
        "scheduler.same-as", "scheduler=constant_with_warmup scheduler.warmup_ratio=0", {}, "warning",
        "exactly the same curve as scheduler=constant", "scheduler.warmup_steps=100",
    ),
    Case(
        "scheduler.same-as", "scheduler=inverse_sqrt scheduler.warmup_ratio=0", {"steps": 150}, "warning",
        "scheduler=constant", "scheduler.warmup_steps=15",
    ),
    Case(
        "scheduler.same-as", "scheduler=inverse_sqrt scheduler.timescale=100000", {"steps": 150}, "warning",
        "scheduler=constant_with_warmup", "scheduler.warmup_steps=15 scheduler.timescale=15",
    ),
    Case(
        "scheduler.same-as", "scheduler=cosine_with_min_lr scheduler.min_ratio=0", {}, "warning", "scheduler=cosine",
        "scheduler.min_ratio=0.1",
    ),
    Case(
        "scheduler.same-as", "scheduler=warmup_stable_decay scheduler.decay_ratio=1", {}, "warning",
        "exactly the same curve as scheduler=cosine", "scheduler.decay_ratio=0.2",
    ),
]
NOT_FOUND = [
    Case("warmup.none", "method=full"),
    Case("warmup.none", "method=full scheduler=constant"),
    Case("warmup.none", "scheduler.warmup_ratio=0", {"steps": 200}),
    Case("warmup.none", "method=full trainer.max_steps=1", {"steps": 1}),
    Case("warmup.too-long", "scheduler.warmup_ratio=0.3"),
    Case("warmup.too-long", "trainer.max_steps=3", {"steps": 3}),
    Case("scheduler.same-as"),
    Case("scheduler.same-as", "scheduler=constant"),
    Case("scheduler.same-as", "scheduler=reduce_lr_on_plateau"),
    Case("scheduler.same-as", "scheduler=cosine_with_restarts scheduler.cycles=1", {"steps": 9}),
]


def test_every_rule_has_cases() -> None:
    check_complete("schedule", FOUND, NOT_FOUND)


@pytest.mark.parametrize("case", FOUND, ids=describe)
def test_rule_finds_the_trouble_and_its_remedy_mends_it(case: Case) -> None:
    check_found(case)


@pytest.mark.parametrize("case", NOT_FOUND, ids=describe)
def test_rule_finds_nothing_in_a_sound_run(case: Case) -> None:
    check_not_found(case)
