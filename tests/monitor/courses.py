"""Runs by their numbers, from the first step to the last: all rules are asked at every moment, as a run asks them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fulgurite.monitor.history import About, TrainingFacts
from fulgurite.monitor.rules import RULES, Moment

TINY = About("sft", vocab=512, total=1000, batch_size=8, answer_tokens=30, max_new_tokens=64)
DPO, RM, GRPO = About("dpo", "sigmoid", vocab=512), About("rm", vocab=512), About("grpo", "dapo", vocab=512)
STEADY = {"train/lr": 1e-4, "train/grad_norm": 0.5, "train/clipped": 0.0}
PROSE = "An answer of several words to the question with the number"


@dataclass(frozen=True)
class Course:
    """A run by its numbers; the last value of a list holds for all later steps. `evaluations` and `samples` are by
    step."""

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


def find_all(course: Course, steps: int) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Yields (step, rule, values) of what the rules find while the run goes on, each rule once."""
    seen, known, rows = TrainingFacts(course.about), set(), []

    def ask(step: int, at: Moment) -> Iterator[tuple[int, str, dict[str, Any]]]:
        for rule, finding in RULES.find(seen, at, known):
            known.add(rule.id)
            yield step, rule.id, finding.values

    for step in range(steps + 1):
        if step:
            numbers = {f"train/{name}": course.at(values, step) for name, values in course.more.items()}
            numbers = {name: value for name, value in numbers.items() if not math.isnan(value)}
            seen.history.add(step, STEADY | numbers | {"train/loss": course.at(course.loss, step)}, course.labels)
            seen.timed, (seen.waited, seen.computed) = step, (step * s for s in course.seconds)
            yield from ask(step, Moment.step)
        if step in course.evaluations:
            seen.history.record_evaluation(step, course.evaluations[step])
            yield from ask(step, Moment.evaluation)
        if step in course.samples:
            rows += [
                {
                    "step": step, "prompt": str(n), "answer": text, "tokens": len(text.split()),
                    "stopped": course.stopped or step == 0,
                }
                for n, text in enumerate(course.samples[step])
            ]
            seen.samples = tuple(rows)
            yield from ask(step, Moment.samples)
    yield from ask(steps, Moment.end)


GOOD = [3 - 0.01 * n + 0.05 * (-1) ** n for n in range(150)]
FLAT = [2 + 0.01 * (-1) ** n for n in range(200)]
ANSWERS = [f"{PROSE} {n}." for n in range(5)]
OTHERS = [f"Another text that the model gives after a while, for {n}." for n in range(5)]
PAIRS = {
    "reward_chosen": [0.0, 0.1], "reward_rejected": [0.0], "logp_chosen": [-50.0], "reward_margin": [0.0, 0.1],
    "accuracy": [0.9],
}
HEALTHY_PAIRS = Course([0.69, 0.6], DPO, more=PAIRS)
HEALTHY = Course(GOOD, evaluations={10: 2.9, 20: 2.8, 30: 2.7, 40: 2.6}, samples={0: ANSWERS, 10: OTHERS, 60: OTHERS})
