"""All rules of a run together: the earliest step at which each can know, and healthy runs without a finding."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from tests.monitor.courses import (
    ANSWERS,
    DPO,
    FLAT,
    GOOD,
    GRPO,
    HEALTHY,
    HEALTHY_PAIRS,
    OTHERS,
    PAIRS,
    RM,
    TINY,
    Course,
    find_all,
)
from tests.monitor.rules import series

from fulgurite.monitor.history import About, History, TrainingFacts
from fulgurite.monitor.rules import RULES, Moment
from fulgurite.rules.registry import Severity

LN_VOCABULARY = math.log(512)
EARLIEST: dict[str, tuple[int, Course, Course]] = {
    "step-zero": (1, Course([LN_VOCABULARY + 1.1]), Course([LN_VOCABULARY + 0.9, 6])),
    "labels-empty": (1, Course([2.0], labels=0), HEALTHY),
    "loss-zero": (3, Course([0.0], labels=60), HEALTHY),
    "diverged": (2, Course([6.2, 26, 50]), Course([6.2, 7.1, 6.2, 6.1])),
    "above-chance": (6, Course([6.2, 26, 50]), Course([6.2, 6.5, 6.2, 6.1])),
    "spike": (3, Course([2.0, 4.5, 5.5]), Course([2.0, 2.8, 3.2, 2.0])),
    "val-not-finite": (1, Course(GOOD, evaluations={1: math.nan}), HEALTHY),
    "plateau": (100, Course(FLAT), Course(GOOD)),
    "overfit": (4, Course(GOOD, evaluations={1: 2.0, 2: 2.1, 3: 2.2, 4: 2.3}), HEALTHY),
    "clip-share": (50, Course(GOOD, more={"clipped": [1.0]}), HEALTHY),
    "norm-high": (
        3, Course(GOOD, more={"grad_norm": [1500.0]}), Course(GOOD, more={"grad_norm": [1500.0, 1500.0, 5.0]}),
    ),
    "adapter-moves": (2, Course(GOOD, more={"update_ratio": [0.0]}), Course(GOOD, more={"update_ratio": [0.0, 1e-5]})),
    "rounded-away": (
        10, Course(GOOD, replace(TINY, nearest=True), more={"unchanged": [0.84]}),
        Course(GOOD, more={"unchanged": [0.84]}),
    ),
    "update-high": (
        1, Course(GOOD, more={"update_ratio": [0.9]}), Course(GOOD, more={"update_ratio": [0.12, 0.1, 0.01]}),
    ),
    "dpo-falls": (
        40, Course([0.69], DPO, more=PAIRS | {
            "reward_chosen": [-0.04 * n for n in range(90)], "reward_rejected": [-0.06 * n for n in range(90)],
        }), HEALTHY_PAIRS,
    ),
    "dpo-wrong": (
        20, Course([0.69], DPO, more=PAIRS | {"reward_margin": [0.0, -0.1], "accuracy": [0.1]}), HEALTHY_PAIRS,
    ),
    "rm-stuck": (
        20, Course([0.69, 0.8], RM, more={"reward_margin": [0.0, -0.1], "accuracy": [0.1]}),
        Course([0.69, 0.6], RM, more={"reward_margin": [0.0, 0.1], "accuracy": [0.7]}),
    ),
    "ties": (
        5, Course([0.0], GRPO, more={"ties": [0.9]}), Course([0.0], GRPO, more={"ties": [0.9, 0.5, 0.9, 0.9, 0.5]}),
    ),
    "samples-endless": (1, Course(GOOD, samples={0: ANSWERS, 1: OTHERS}, stopped=False), HEALTHY),
    "samples-repeat": (1, Course(GOOD, samples={0: ANSWERS, 1: [f"{n} and so on " * 20 for n in range(5)]}), HEALTHY),
    "samples-collapse": (1, Course(GOOD, samples={0: ANSWERS, 1: [""] * 5}), HEALTHY),
    "before-after": (60, Course(GOOD, samples={0: ANSWERS, 60: ANSWERS}), HEALTHY),
    "data-waits": (20, Course(GOOD, seconds=(0.2, 0.1)), Course(GOOD, seconds=(0.1, 0.2))),
}


def test_every_rule_has_an_earliest_step() -> None:
    assert sorted(EARLIEST) == sorted(RULES.rules)


@pytest.mark.parametrize("name", EARLIEST)
def test_rule_finds_the_trouble_at_the_earliest_step_and_nothing_in_the_healthy_run(name: str) -> None:
    earliest, wrong, healthy = EARLIEST[name]
    steps = max(earliest, 60)
    assert {rule: step for step, rule, _ in find_all(wrong, steps)}.get(name) == earliest
    assert list(find_all(healthy, steps)) == []


@pytest.mark.parametrize("before", [1, 2, 3, 7, 8, 20, 45, 130, 400])
@pytest.mark.parametrize(
    ("climb", "within"), [([26, 50], 1), ([7.5, 8], 2), ([5.5, 5.6], 2), ([4.0, 5.0, 6.0, 7.0, 8.0, 9.0], 3)],
    ids=["out of all bounds", "above chance", "a jump", "a ramp"],
)
def test_rising_loss_is_found_at_once_after_any_number_of_steps(before: int, climb: list[float], within: int) -> None:
    healthy = [2 + 0.2 * math.sin(n) for n in range(before)]
    found = {rule: step for step, rule, _ in find_all(Course([*healthy, *climb]), before + 20)}
    assert min(found.get("diverged", math.inf), found.get("spike", math.inf)) <= before + within


@pytest.mark.parametrize("batch_size", [1, 4, 16, 64])
def test_noise_of_a_healthy_run_is_no_trouble(batch_size: int) -> None:
    """A thousand losses fall from 4 to 1; they scatter as means of examples that differ by a nat, a few by five."""
    draw = random.Random(0)

    def loss(step: int) -> float:
        each = [draw.gauss(1 + 3 / (1 + step / 50), 1) + 4 * (draw.random() < 0.02) for _ in range(batch_size)]
        return max(sum(each) / batch_size, 0.05)

    course = Course([loss(n) for n in range(1000)], replace(TINY, vocab=50_000, batch_size=batch_size))
    assert [rule for _, rule, _ in find_all(course, 1000)] == []


@pytest.mark.parametrize("rule", RULES.rules)
def test_first_step_of_a_sound_run_is_no_trouble(rule: str) -> None:
    known = (series.SFT, series.DPO, series.RM, series.GRPO, About("ppo"), About("kto"), About("pt"))
    for about in known:
        first = 0.693 if about.stage == "rm" else 2.0
        begun = series.record_steps(
            [first], accuracy=0.0, reward_chosen=0.0, reward_rejected=0.0, logp_chosen=-50.0, ties=0.1
        )
        assert series.judge(rule, TrainingFacts(about, begun)) is None


def test_severities() -> None:
    assert len(RULES.rules) == 23
    assert {name for name, rule in RULES.rules.items() if rule.severity is Severity.stop} == {
        "step-zero", "labels-empty", "loss-zero", "above-chance", "val-not-finite",
    }
    assert {name for name, rule in RULES.rules.items() if rule.severity is Severity.note} == {"overfit", "dpo-falls"}


def test_history_without_the_first_steps_leads_to_no_finding_that_needs_them() -> None:
    facts = TrainingFacts(About("sft", total=200, warmup=0), History())
    for step in range(61, 161):
        record = {"train/loss": 2.0, "train/lr": 1e-4, "train/clipped": 0.0, "train/grad_norm": 1.0}
        facts.history.add(step, record, 500)
        assert list(RULES.find(facts, Moment.step)) == []
