"""Numbers of runs for the tests of the rules: steps, updates, evaluations and samples, made by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from fulgurite.monitor.history import About, History, TrainingFacts
from fulgurite.monitor.rules import RULES
from fulgurite.rules.registry import Finding

SFT = About("sft", total=1000, warmup=10, answer_tokens=30, max_new_tokens=64)
BF16 = replace(SFT, nearest=True)
DPO, RM, GRPO = About("dpo", "sigmoid"), About("rm", total=1000), About("grpo", "dapo", rollout_steps=2)
FALLING = [3 - 0.01 * n + 0.05 * (-1) ** n for n in range(150)]
PROSE = "The learning rate rises during the warmup and then falls slowly until the last step of the whole run is done."
Cases = dict[str, list[tuple[str, TrainingFacts]]]
"""By rule: cases with a name each."""


def record_steps(losses: Iterable[float], labels: int = 500, **more: Iterable[float] | float) -> History:
    """Records steps with a loss and, by name, further columns of numbers; one number is a constant column."""
    history, losses = History(), list(losses)
    columns = {
        name: list(values) if isinstance(values, Iterable) else [values] * len(losses) for name, values in more.items()
    }
    for n, loss in enumerate(losses):
        record = {"train/loss": loss, "train/lr": 1e-4, "train/grad_norm": 0.5, "train/clipped": 0.0}
        history.add(n + 1, record | {f"train/{name}": values[n] for name, values in columns.items()}, labels)
    return history


def record_updates(ratios: dict[int, float], lr: float = 1e-4, losses: Iterable[float] = FALLING) -> History:
    """Records steps of which some have an update ratio."""
    history = History()
    for n, loss in enumerate(list(losses)[: max(ratios)]):
        more = {"train/update_ratio": ratios[n + 1]} if n + 1 in ratios else {}
        record = {"train/loss": loss, "train/lr": lr, "train/grad_norm": 0.5, "train/clipped": 0.0, **more}
        history.add(n + 1, record, 500)
    return history


def record_evaluations(*pairs: tuple[float, float]) -> History:
    """Records evaluations as (training loss, validation loss), each after ten steps."""
    history = History()
    for number, (train, val) in enumerate(pairs, 1):
        for step in range(10 * number - 9, 10 * number + 1):
            history.add(step, {"train/loss": train}, 500)
        history.record_evaluation(10 * number, val)
    return history


def sample_rows(answers: list[str], step: int = 900, stopped: bool | list[bool] = True) -> list[dict[str, Any]]:
    """Makes rows of samples.jsonl, each with a prompt of its own."""
    ends = stopped if isinstance(stopped, list) else [stopped] * len(answers)
    return [
        {"step": step, "prompt": str(n), "answer": answer, "tokens": 9, "stopped": end}
        for n, (answer, end) in enumerate(zip(answers, ends, strict=True))
    ]


def compare_rewards(
    about: About, count: int, chosen: Callable[[int], float], rejected: Callable[[int], float], accuracy: float = 0.9
) -> TrainingFacts:
    """Makes a DPO run whose rewards are functions of the step; a chosen answer has -50 nats at the start."""
    steps = range(count)
    return TrainingFacts(about, record_steps(
        [0.69] * count, reward_margin=[chosen(n) - rejected(n) for n in steps],
        reward_chosen=[chosen(n) for n in steps], reward_rejected=[rejected(n) for n in steps],
        logp_chosen=[-50 + chosen(n) / 0.1 for n in steps], accuracy=accuracy,
    ))


def judge(rule: str, facts: TrainingFacts) -> Finding | None:
    """Calls the first check of a rule."""
    found: Any = next(iter(RULES.rules[rule].checks.values()))(facts)
    return found


def join_text(rule: str, cases: Cases, name: str) -> str:
    """Returns the sentence and the remedy that a rule finds in a case."""
    found = judge(rule, dict(cases[rule])[name])
    assert found is not None
    return f"{found.sentence} {found.remedy}"


def list_cases(cases: Cases) -> list[tuple[str, str]]:
    """Returns (rule, case) for pytest."""
    return [(rule, name) for rule, named in cases.items() for name, _ in named]


def rules_of(module: str) -> set[str]:
    """Returns the ids of the rules that a file of monitor/rules declares."""
    path = f"fulgurite.monitor.rules.{module}"
    known = RULES.rules.items()
    return {name for name, rule in known if any(check.__module__ == path for check in rule.checks.values())}


def check_found(rule: str, facts: TrainingFacts) -> None:
    """Checks that a rule finds something: one sentence, one remedy, finite numbers."""
    finding = judge(rule, facts)
    assert finding is not None
    sentence, remedy = str(finding.sentence), str(finding.remedy)
    assert sentence[0].isupper() or sentence[0].isdigit()
    assert sentence.endswith(".")
    assert remedy.endswith(".")
    assert finding.values
    for value in finding.values.values():
        assert not isinstance(value, float) or math.isfinite(value)


def check_complete(module: str, found: Cases, not_found: Cases) -> None:
    """Checks that each rule of a file has cases of both kinds."""
    assert set(found) == set(not_found) == rules_of(module)
    assert all([*found.values(), *not_found.values()])
