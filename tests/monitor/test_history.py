"""Each rule from the earliest step at which it can know: a series that provokes it there, and a healthy one of which nothing is said.

All rules of the registry are asked at every moment, as a run asks them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from fulgurite.monitor.history import About, History, TrainingFacts
from fulgurite.monitor.outcome import RunEnding, ending
from fulgurite.monitor.rules import RULES, Moment
from fulgurite.run.status import track_status

LN_V = math.log(512)
TINY = About("sft", vocab=512, total=1000, batch_size=8, answer_tokens=30, max_new_tokens=64)
DPO, RM, GRPO = About("dpo", "sigmoid", vocab=512), About("rm", vocab=512), About("grpo", "dapo", vocab=512)
STEADY = {"train/lr": 1e-4, "train/grad_norm": 0.5, "train/clipped": 0.0}
PROSE = "An answer of several words to the question with the number"


@dataclass(frozen=True)
class Course:
    """A run by its numbers; a list's last value goes on for ever. `evaluations` and `samples` are by step."""

    loss: Sequence[float]
    about: About = field(default_factory=lambda: TINY)
    labels: int = 500
    more: Mapping[str, Sequence[float]] = field(default_factory=dict)
    evaluations: Mapping[int, float] = field(default_factory=dict)
    samples: Mapping[int, Sequence[str]] = field(default_factory=dict)
    stopped: bool = True
    seconds: tuple[float, float] = (0.0, 0.0)

    def at(self, values: Sequence[float], step: int) -> float:
        return values[min(step, len(values)) - 1]


def findings(course: Course, steps: int) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """What the rules say while the course runs, each once."""
    seen, told, rows = TrainingFacts(course.about), set(), []

    def ask(step: int, at: Moment) -> Iterator[tuple[int, str, dict[str, Any]]]:
        for rule, finding in RULES.find(seen, at, told):
            told.add(rule.id)
            yield step, rule.id, finding.values

    for step in range(steps + 1):
        if step:
            numbers = {f"train/{name}": course.at(values, step) for name, values in course.more.items()}
            numbers = {name: value for name, value in numbers.items() if not math.isnan(value)}
            seen.history.add(step, STEADY | numbers | {"train/loss": course.at(course.loss, step)}, course.labels)
            seen.timed, (seen.waited, seen.computed) = step, (step * s for s in course.seconds)
            yield from ask(step, Moment.step)
        if step in course.evaluations:
            seen.history.evaluated(step, course.evaluations[step])
            yield from ask(step, Moment.evaluation)
        if step in course.samples:
            rows += [
                {"step": step, "prompt": str(n), "answer": text, "tokens": len(text.split()), "stopped": course.stopped or step == 0}
                for n, text in enumerate(course.samples[step])
            ]
            seen.samples = tuple(rows)
            yield from ask(step, Moment.samples)
    yield from ask(steps, Moment.end)


GOOD = [3 - 0.01 * n + 0.05 * (-1) ** n for n in range(150)]
FLAT = [2 + 0.01 * (-1) ** n for n in range(200)]
ANSWERS = [f"{PROSE} {n}." for n in range(5)]
OTHERS = [f"Another text that the model gives after a while, for {n}." for n in range(5)]
PAIRS = {"reward_chosen": [0.0, 0.1], "reward_rejected": [0.0], "logp_chosen": [-50.0], "reward_margin": [0.0, 0.1], "accuracy": [0.9]}
HEALTHY_PAIRS = Course([0.69, 0.6], DPO, more=PAIRS)
HEALTHY = Course(GOOD, evaluations={10: 2.9, 20: 2.8, 30: 2.7, 40: 2.6}, samples={0: ANSWERS, 10: OTHERS, 60: OTHERS})

EARLIEST: dict[str, tuple[int, Course, Course]] = {
    "step-zero": (1, Course([LN_V + 1.1]), Course([LN_V + 0.9, 6])),
    "labels-empty": (1, Course([2.0], labels=0), HEALTHY),
    "loss-zero": (3, Course([0.0], labels=60), HEALTHY),
    "diverged": (2, Course([6.2, 26, 50]), Course([6.2, 7.1, 6.2, 6.1])),
    "above-chance": (6, Course([6.2, 26, 50]), Course([6.2, 6.5, 6.2, 6.1])),
    "spike": (3, Course([2.0, 4.5, 5.5]), Course([2.0, 2.8, 3.2, 2.0])),
    "val-not-finite": (1, Course(GOOD, evaluations={1: math.nan}), HEALTHY),
    "plateau": (100, Course(FLAT), Course(GOOD)),
    "overfit": (4, Course(GOOD, evaluations={1: 2.0, 2: 2.1, 3: 2.2, 4: 2.3}), HEALTHY),
    "clip-share": (50, Course(GOOD, more={"clipped": [1.0]}), HEALTHY),
    "norm-high": (3, Course(GOOD, more={"grad_norm": [1500.0]}), Course(GOOD, more={"grad_norm": [1500.0, 1500.0, 5.0]})),
    "adapter-moves": (2, Course(GOOD, more={"update_ratio": [0.0]}), Course(GOOD, more={"update_ratio": [0.0, 1e-5]})),
    "rounded-away": (10, Course(GOOD, replace(TINY, nearest=True), more={"unchanged": [0.84]}), Course(GOOD, more={"unchanged": [0.84]})),
    "update-high": (1, Course(GOOD, more={"update_ratio": [0.9]}), Course(GOOD, more={"update_ratio": [0.12, 0.1, 0.01]})),
    "dpo-falls": (
        40, Course([0.69], DPO, more=PAIRS | {
            "reward_chosen": [-0.04 * n for n in range(90)], "reward_rejected": [-0.06 * n for n in range(90)],
        }), HEALTHY_PAIRS,
    ),
    "dpo-wrong": (20, Course([0.69], DPO, more=PAIRS | {"reward_margin": [0.0, -0.1], "accuracy": [0.1]}), HEALTHY_PAIRS),
    "rm-stuck": (
        20, Course([0.69, 0.8], RM, more={"reward_margin": [0.0, -0.1], "accuracy": [0.1]}),
        Course([0.69, 0.6], RM, more={"reward_margin": [0.0, 0.1], "accuracy": [0.7]}),
    ),
    "ties": (5, Course([0.0], GRPO, more={"ties": [0.9]}), Course([0.0], GRPO, more={"ties": [0.9, 0.5, 0.9, 0.9, 0.5]})),
    "samples-endless": (1, Course(GOOD, samples={0: ANSWERS, 1: OTHERS}, stopped=False), HEALTHY),
    "samples-repeat": (1, Course(GOOD, samples={0: ANSWERS, 1: [f"{n} and so on " * 20 for n in range(5)]}), HEALTHY),
    "samples-collapse": (1, Course(GOOD, samples={0: ANSWERS, 1: [""] * 5}), HEALTHY),
    "before-after": (60, Course(GOOD, samples={0: ANSWERS, 60: ANSWERS}), HEALTHY),
    "data-waits": (20, Course(GOOD, seconds=(0.2, 0.1)), Course(GOOD, seconds=(0.1, 0.2))),
}


def test_every_rule_is_here() -> None:
    assert sorted(EARLIEST) == sorted(RULES.rules)


@pytest.mark.parametrize("name", EARLIEST)
def test_a_rule_speaks_at_the_earliest_step_and_not_of_the_healthy_run_beside(name: str) -> None:
    earliest, wrong, healthy = EARLIEST[name]
    steps = max(earliest, 60)
    assert {rule: step for step, rule, _ in findings(wrong, steps)}.get(name) == earliest
    assert list(findings(healthy, steps)) == []


@pytest.mark.parametrize("before", [1, 2, 3, 7, 8, 20, 45, 130, 400])
@pytest.mark.parametrize(
    ("climb", "within"), [([26, 50], 1), ([7.5, 8], 2), ([5.5, 5.6], 2), ([4.0, 5.0, 6.0, 7.0, 8.0, 9.0], 3)],
    ids=["out of all bounds", "above chance", "a jump", "a ramp"],
)
def test_a_loss_that_climbs_is_found_at_once_whatever_came_before(before: int, climb: list[float], within: int) -> None:
    healthy = [2 + 0.2 * math.sin(n) for n in range(before)]
    told = {rule: step for step, rule, _ in findings(Course([*healthy, *climb]), before + 20)}
    assert min(told.get("diverged", math.inf), told.get("spike", math.inf)) <= before + within


@pytest.mark.parametrize("batch_size", [1, 4, 16, 64])
def test_noise_between_healthy_steps_is_no_climb(batch_size: int) -> None:
    """A thousand steps whose losses fall from 4 to 1 and scatter as means of examples do that differ by a nat, an odd one by five."""
    import random

    draw = random.Random(0)

    def loss(step: int) -> float:
        each = [draw.gauss(1 + 3 / (1 + step / 50), 1) + 4 * (draw.random() < 0.02) for _ in range(batch_size)]
        return max(sum(each) / batch_size, 0.05)

    course = Course([loss(n) for n in range(1000)], replace(TINY, vocab=50_000, batch_size=batch_size))
    assert [rule for _, rule, _ in findings(course, 1000)] == []


def told(course: Course, steps: int) -> tuple[History, list[dict[str, Any]]]:
    history = History()
    for step in range(1, steps + 1):
        history.add(step, {"train/loss": course.at(course.loss, step)}, 500)
    return history, [
        {"step": step, "rule": rule, "severity": RULES.rules[rule].severity, "values": values}
        for step, rule, values in findings(course, steps)
    ]


def test_a_run_that_diverged_is_not_done() -> None:
    assert ending(*told(HEALTHY, 60)) == RunEnding()
    assert RunEnding().opening() == "Done:"
    for climb in ([6.2, 26, 50], [2.0, 2.1, 2.0, 2.1, 6.0, 6.1], [2 + 0.05 * n for n in range(60)]):
        for steps in (len(climb), 70):
            how = ending(*told(Course(climb), steps))
            assert (how.state, how.opening().partition(" ")[0]) == ("diverged", "Diverged:"), (climb, steps)
    assert "diverged (step 2)" in ending(*told(Course([6.2, 26, 50]), 3)).warnings


def test_a_run_that_came_back_ended_with_warnings() -> None:
    how = ending(*told(Course([2.0, 2.1, 2.0, 2.1, 6.0, 6.1, 2.0, 2.1]), 30))
    assert how == RunEnding(("spike (step 6)",))
    assert (how.state, how.opening()) == ("finished", "Ended with 1 warning: spike (step 6);")
    note = {"step": 9, "rule": "dpo-falls", "severity": "note", "values": {}}
    assert ending(told(HEALTHY, 60)[0], [note]) == RunEnding()


def test_the_status_file_carries_how_it_ended(tmp_path: Path) -> None:
    with track_status(tmp_path, name="x") as ended:
        ended |= {"state": "diverged", "warnings": ["diverged (step 2)"]}
    kept = json.loads((tmp_path / "status.json").read_text())
    assert (kept["state"], kept["warnings"]) == ("diverged", ["diverged (step 2)"])
    with track_status(tmp_path, name="x"):
        pass
    kept = json.loads((tmp_path / "status.json").read_text())
    assert (kept["state"], "warnings" in kept) == ("finished", False)
