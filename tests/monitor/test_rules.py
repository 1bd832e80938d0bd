"""Each rule on numbers fed by hand: what makes it speak, and the healthy numbers next to them, of which it says nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from fulgurite.monitor import thresholds as limits
from fulgurite.monitor.history import About, History
from fulgurite.monitor.history import TrainingFacts as Seen
from fulgurite.monitor.rules import RULES as REGISTRY
from fulgurite.monitor.rules.samples import repetition
from fulgurite.monitor.statistics import error_of_difference, wilson
from fulgurite.rules.registry import Severity

RULES = REGISTRY.rules

SFT = About("sft", total=1000, warmup=10, answer_tokens=30, max_new_tokens=64)
BF16 = replace(SFT, nearest=True)
FALLING = [3 - 0.01 * n + 0.05 * (-1) ** n for n in range(150)]


def history(losses: Iterable[float], labels: int = 500, **more: Iterable[float]) -> History:
    """Steps with a loss and, by name, further columns of numbers (one number stands for a constant column)."""
    made, losses = History(), list(losses)
    columns = {name: list(values) if isinstance(values, Iterable) else [values] * len(losses) for name, values in more.items()}
    for n, loss in enumerate(losses):
        record = {"train/loss": loss, "train/lr": 1e-4, "train/grad_norm": 0.5, "train/clipped": 0.0}
        made.add(n + 1, record | {f"train/{name}": values[n] for name, values in columns.items()}, labels)
    return made


def updates(ratios: dict[int, float], lr: float = 1e-4, losses: Iterable[float] = FALLING) -> History:
    made = History()
    for n, loss in enumerate(list(losses)[: max(ratios)]):
        more = {"train/update_ratio": ratios[n + 1]} if n + 1 in ratios else {}
        made.add(n + 1, {"train/loss": loss, "train/lr": lr, "train/grad_norm": 0.5, "train/clipped": 0.0, **more}, 500)
    return made


def evaluated(*pairs: tuple[float, float]) -> History:
    """Evaluations, each after ten steps at a training loss."""
    made = History()
    for number, (train, val) in enumerate(pairs, 1):
        for step in range(10 * number - 9, 10 * number + 1):
            made.add(step, {"train/loss": train}, 500)
        made.evaluated(10 * number, val)
    return made


def samples(answers: list[str], step: int = 900, stopped: bool | list[bool] = True) -> list[dict[str, Any]]:
    ends = stopped if isinstance(stopped, list) else [stopped] * len(answers)
    return [
        {"step": step, "prompt": str(n), "answer": a, "tokens": 9, "stopped": end}
        for n, (a, end) in enumerate(zip(answers, ends, strict=True))
    ]


def compared(about: About, count: int, chosen: Callable[[int], float], rejected: Callable[[int], float], accuracy: float = 0.9) -> Seen:
    """A DPO run whose chosen and rejected rewards are functions of the step; a chosen answer has -50 nats at the start."""
    steps = range(count)
    return Seen(about, history(
        [0.69] * count, reward_margin=[chosen(n) - rejected(n) for n in steps],
        reward_chosen=[chosen(n) for n in steps], reward_rejected=[rejected(n) for n in steps],
        logp_chosen=[-50 + chosen(n) / 0.1 for n in steps], accuracy=accuracy,
    ))


DPO, RM, GRPO = About("dpo", "sigmoid"), About("rm", total=1000), About("grpo", "dapo", rollout_steps=2)
LOOP = "and so on and on " * 20
PROSE = "The learning rate rises during the warmup and then falls slowly until the last step of the whole run is done."
STALE = {n: f"an answer {n}" for n in range(5)}

SPEAKS: dict[str, list[tuple[str, Seen]]] = {
    "step-zero": [
        ("above chance", Seen(SFT, history([math.log(50_000) + 1.01]))),
        ("known already", Seen(SFT, history([0.04]))),
        ("a reward head that is not new", Seen(RM, history([0.80]))),
    ],
    "labels-empty": [("masked", Seen(SFT, history([0.0], labels=0))), ("all cut", Seen(GRPO, history([0.0], labels=0)))],
    "loss-zero": [("sft", Seen(SFT, history([2, 1e-7, 0.0, 0.0]))), ("pairs", Seen(DPO, history([0.6, 1e-7, 0.0, 0.0])))],
    "above-chance": [("five in a row", Seen(SFT, history([3.0, 12.0, 13.0, 14.0, 15.0, 16.0])))],
    "val-not-finite": [("nan", Seen(SFT, evaluated((2, math.nan)))), ("inf", Seen(SFT, evaluated((2, 1.9), (1.5, math.inf))))],
    "spike": [
        ("up and stays", Seen(SFT, history([*FALLING[:40], 9, 9]))), ("from the second step", Seen(SFT, history([2.0, 6.0, 7.0]))),
        ("after few", Seen(SFT, history([2.0, 2.1, 2.0, 5.0, 5.0]))), ("twice the median", Seen(SFT, history([2.0] * 40 + [5.0] * 2))),
        ("a squared loss", Seen(About("dpo", "ipo"), history([25.0 + (-1) ** n for n in range(30)] + [90.0] * 2))),
        ("single pairs", Seen(replace(DPO, batch_size=1), history([0.6 + 0.2 * (-1) ** n for n in range(40)] + [5.0] * 16))),
    ],
    "diverged": [
        ("slowly", Seen(SFT, history([2 + 0.05 * (-1) ** n + 0.02 * n for n in range(60)]))),
        ("above chance", Seen(SFT, history([10.8, 26.0]))), ("above chance of few labels", Seen(SFT, history([10.8, 26.0], labels=8))),
        ("in the warmup", Seen(replace(SFT, warmup=100), history([2 + 0.05 * (-1) ** n + 0.02 * n for n in range(60)]))),
    ],
    "plateau": [
        ("flat", Seen(SFT, history([2 + 0.01 * (-1) ** n for n in range(110)]))),
        ("a short run, at its end", Seen(replace(SFT, total=60), history([2 + 0.01 * (-1) ** n for n in range(60)]))),
        ("dpo at ln 2", Seen(DPO, history([0.6931 + 1e-5 * (-1) ** n for n in range(100)]))),
    ],
    "overfit": [("three rises", Seen(SFT, evaluated((2, 1.9), (1.5, 1.5), (1.2, 1.55), (0.9, 1.6), (0.6, 1.7))))],
    "clip-share": [("two of three", Seen(SFT, history(FALLING[:100], clipped=[n % 3 > 0 for n in range(100)], grad_norm=2.5)))],
    "norm-high": [
        ("always", Seen(SFT, history(FALLING[:40], grad_norm=150.0))), ("wild at once", Seen(SFT, history(FALLING[:3], grad_norm=1500.0))),
    ],
    "adapter-moves": [
        ("nothing at all", Seen(SFT, updates({1: 0.0, 2: 0.0}))),
        ("next to nothing", Seen(SFT, updates({1: 5e-8, 2: 6e-8, 4: 6e-8}))),
    ],
    "rounded-away": [
        ("84 %", Seen(BF16, history(FALLING[:10], unchanged=0.84))),
        ("muon", Seen(replace(BF16, alone=False), history(FALLING[:30], unchanged=[0.3] * 20 + [0.51] * 10))),
    ],
    "update-high": [
        ("a third", Seen(SFT, updates({1: 0.4, 8: 0.4, 16: 0.35}))), ("all of it at once", Seen(SFT, updates({1: 0.6}))),
        ("at a low rate", Seen(SFT, updates({1: 0.0, 2: 0.7}, lr=1e-6))), ("began at zero", Seen(SFT, updates({2: 1.0, 64: 0.6}))),
    ],
    "dpo-falls": [
        ("against the reference", compared(DPO, 60, lambda n: -0.02 * n, lambda n: -0.03 * n)),
        ("without one", compared(replace(DPO, loss="simpo", paired=False), 60, lambda n: -0.02 * n, lambda n: -0.03 * n)),
    ],
    "dpo-wrong": [
        ("swapped", compared(DPO, 100, lambda n: -0.01 * n, lambda n: 0.01 * n, accuracy=0.3)),
        ("early", compared(DPO, 20, lambda n: -0.01 * n, lambda n: 0.01 * n, accuracy=0.1)),
    ],
    "rm-stuck": [
        ("a coin", Seen(RM, history([0.69] * 200, accuracy=[0.45 + 0.1 * (n % 2) for n in range(200)]))),
        ("a short run, at its end", Seen(replace(RM, total=50), history([0.69] * 50, accuracy=0.51))),
        ("worse", Seen(RM, history([0.8] * 200, accuracy=0.2))),
        ("worse, early", Seen(RM, history([0.8] * 20, accuracy=0.2, reward_margin=-0.3))),
    ],
    "ties": [("five rollouts", Seen(GRPO, history([0.0] * 10, ties=0.9)))],
    "samples-endless": [
        ("four of five", Seen(SFT, samples=samples([PROSE] * 5, stopped=[True, False, False, False, False]))),
        ("early, where they did end", Seen(SFT, samples=samples([PROSE] * 5, 0) + samples([PROSE] * 5, 10, stopped=False))),
    ],
    "samples-collapse": [
        ("empty", Seen(SFT, samples=samples([*STALE.values()], 0) + samples([""] * 5, 10))),
        ("one token", Seen(SFT, samples=samples([*STALE.values()], 0) + samples(["the " * 9, "!" * 9, "好" * 9], 10))),
        ("one answer", Seen(SFT, samples=samples([*STALE.values()], 0) + samples([PROSE] * 5, 10))),
        ("one short answer", Seen(SFT, samples=samples([*STALE.values()], 0) + samples(["Yes."] * 5, 10))),
    ],
    "samples-repeat": [("four of five", Seen(SFT, samples=samples([PROSE] * 5, 0) + samples([PROSE] + [LOOP] * 4)))],
    "before-after": [("the same", Seen(SFT, samples=samples([*STALE.values()], 0) + samples([*STALE.values()])))],
    "data-waits": [("longer", Seen(SFT, waited=4.0, computed=2.0, timed=20))],
}
SILENT: dict[str, list[tuple[str, Seen]]] = {
    "step-zero": [
        ("chance", Seen(SFT, history([math.log(50_000) + 0.9]))), ("usual", Seen(SFT, history([2.0]))),
        ("few labels", Seen(SFT, history([14.0], labels=63))), ("the second step", Seen(SFT, history([2.0, 15.0]))),
        ("dft", Seen(replace(SFT, loss="dft"), history([0.01]))), ("ln 2", Seen(RM, history([0.6931]))),
        ("a head of its own", Seen(replace(RM, new_head=False), history([0.40]))),
        ("pairs with margins", Seen(replace(RM, margins=True), history([1.3]))), ("dpo, which checks itself", Seen(DPO, history([25.0]))),
    ],
    "labels-empty": [
        ("one label", Seen(SFT, history([2.0], labels=1))),
        ("privacy", Seen(replace(SFT, private=True), history([0], labels=0))),
    ],
    "loss-zero": [
        ("twice", Seen(SFT, history([2, 0.0, 0.0]))), ("small", Seen(SFT, history([2e-6] * 3))), ("grpo", Seen(GRPO, history([0.0] * 9))),
        ("hinge", Seen(replace(DPO, loss="hinge"), history([0.0] * 9))),
    ],
    "above-chance": [
        ("four in a row", Seen(SFT, history([3.0, 12.0, 13.0, 14.0, 15.0]))),
        ("one back", Seen(SFT, history([3.0, 12.0, 13.0, 11.0, 15.0, 16.0]))),
        ("a first loss as high", Seen(SFT, history([15.5, 16.0, 16.0, 16.0, 16.0, 16.0]))),
        ("pairs", Seen(DPO, history([0.7, 12.0, 13.0, 14.0, 15.0, 16.0]))),
        ("few labels", Seen(SFT, history([3.0] + [13.0] * 5, labels=8))),
    ],
    "val-not-finite": [("a number", Seen(SFT, evaluated((2, 1.9))))],
    "spike": [
        ("falling", Seen(SFT, history(FALLING))), ("one", Seen(SFT, history([*FALLING[:40], 9]))),
        ("small losses", Seen(SFT, history([0.05] * 40 + [0.4] * 5))), ("grpo", Seen(GRPO, history([0.1] * 40 + [9.0] * 5))),
        ("examples that differ", Seen(replace(SFT, batch_size=1), history([2.0, 5.0, 5.5]))),
        ("noise", Seen(SFT, history([2.0 + 3 * (n % 4 == 0) for n in range(40)] + [5.0] * 2))),
        ("above chance, which diverged says", Seen(SFT, history([2.0] * 40 + [26.0] * 2))),
        ("a squared loss", Seen(About("dpo", "ipo"), history([25.0 + 5 * (-1) ** n for n in range(30)] + [70.0] * 2))),
        ("a pair or two", Seen(replace(DPO, batch_size=1), history([0.6 + 0.2 * (-1) ** n for n in range(40)] + [5.0] * 15))),
    ],
    "diverged": [
        ("chance", Seen(SFT, history([10.8, 11.7]))), ("the first step, which step-zero judges", Seen(SFT, history([26.0]))),
        ("a row that is new to a model of few", Seen(SFT, history([10.8, 6.0, 5.0, 4.0, 18.0]))),
        ("few labels", Seen(SFT, history([10.8, 13.0], labels=8))), ("pairs", Seen(DPO, history([0.7, 13.0]))),
        ("falling", Seen(SFT, history(FALLING))), ("a little", Seen(SFT, history([2.0] * 20 + [2.4] * 20))),
        ("noise", Seen(SFT, history([2.0 + 3 * (n % 7 == 0) for n in range(30)] + [2.0 + 3 * (n % 4 == 0) for n in range(20)]))),
        ("ipo", Seen(About("dpo", "ipo"), history([25.0] * 20 + [30.0] * 20))),
    ],
    "plateau": [
        ("falling", Seen(SFT, history(FALLING[:110]))), ("a step early", Seen(SFT, history([2.0] * 109))),
        ("too noisy to say", Seen(SFT, history([2 + (-1) ** n for n in range(110)]))),
        ("dpo, slowly and surely", Seen(DPO, history([0.6931 - 5e-5 * n + 1e-4 * (-1) ** n for n in range(100)]))),
        ("shorter than judged", Seen(replace(SFT, total=29), history([2.0] * 29))), ("ppo", Seen(About("ppo"), history([0.0] * 100))),
    ],
    "overfit": [
        ("falling", Seen(SFT, evaluated((2, 1.9), (1.5, 1.5), (1.2, 1.4), (0.9, 1.35), (0.6, 1.3)))),
        ("two rises", Seen(SFT, evaluated((2, 1.9), (1.5, 1.5), (1.2, 1.55), (0.9, 1.6)))),
        ("training rises too", Seen(SFT, evaluated((2, 1.9), (1.5, 1.5), (1.6, 1.55), (1.7, 1.6), (1.8, 1.7)))),
        ("by nothing", Seen(SFT, evaluated((2, 1.9), (1.5, 1.5), (1.2, 1.501), (0.9, 1.502), (0.6, 1.503)))),
    ],
    "clip-share": [
        ("half", Seen(SFT, history(FALLING[:100], clipped=[n % 2 for n in range(100)]))),
        ("in the warmup", Seen(replace(SFT, warmup=60), history(FALLING[:110], clipped=[n < 60 for n in range(110)]))),
        ("privacy", Seen(replace(SFT, private=True), history(FALLING[:100], clipped=1.0))),
    ],
    "norm-high": [
        ("one step", Seen(SFT, history(FALLING[:40], grad_norm=[1.0] * 39 + [1e4]))),
        ("high", Seen(SFT, history(FALLING[:40], grad_norm=90.0))), ("wild twice", Seen(SFT, history(FALLING[:2], grad_norm=1500.0))),
    ],
    "adapter-moves": [
        ("warmup begins at rate 0", Seen(SFT, updates({1: 0.0, 2: 1e-3}))), ("rate 0", Seen(SFT, updates({1: 0.0, 2: 0.0}, lr=0.0))),
        ("dpo at 5e-7", Seen(DPO, updates({16: 1e-5, 32: 1e-5, 64: 1e-5}))),
        ("late in a cosine", Seen(SFT, updates({16: 1e-3, 32: 1e-3, 64: 1e-8}))),
        ("too early to say", Seen(SFT, updates({1: 5e-8, 2: 5e-8}))),
    ],
    "rounded-away": [
        ("too early", Seen(BF16, history(FALLING[:9], unchanged=0.84))), ("half", Seen(BF16, history(FALLING[:30], unchanged=0.5))),
        ("one step less", Seen(BF16, history(FALLING[:30], unchanged=[0.84] * 25 + [0.4] + [0.84] * 4))),
        ("by chance, or Kahan", Seen(SFT, history(FALLING[:30], unchanged=0.84))), ("fp32", Seen(BF16, history(FALLING[:30]))),
        ("late in a cosine", Seen(replace(BF16, lr=3e-4), history(FALLING[:30], unchanged=0.84))),
    ],
    "update-high": [
        ("usual", Seen(SFT, updates({1: 8e-3, 8: 7e-3, 16: 5e-3}))), ("once", Seen(SFT, updates({1: 0.4, 8: 0.4, 16: 0.1}))),
        ("began at zero", Seen(SFT, updates({2: 1.0, 8: 0.4, 16: 0.35}))),
        ("LoRA+", Seen(replace(SFT, multiplied=True), updates({1: 0.7, 2: 0.6, 8: 0.2, 16: 0.1}))),
    ],
    "dpo-falls": [
        ("chosen rises", compared(DPO, 60, lambda n: 0.02 * n, lambda n: -0.03 * n)),
        ("a little", compared(DPO, 60, lambda n: -0.005 * n, lambda n: -0.03 * n)),
        ("the margin does not grow", compared(DPO, 60, lambda n: -0.02 * n, lambda n: -0.01 * n)),
        ("apo_down means it", compared(replace(DPO, loss="apo_down"), 60, lambda n: -0.02 * n, lambda n: -0.03 * n)),
    ],
    "dpo-wrong": [
        ("a coin", compared(DPO, 100, lambda n: 0.0, lambda n: 0.0, accuracy=0.5)),
        ("by chance", compared(DPO, 100, lambda n: 0.0, lambda n: 0.0, accuracy=0.475)),
        ("margins of nothing", compared(DPO, 99, lambda n: 0.0, lambda n: 0.0, accuracy=0.0)),
        ("too early", compared(DPO, 19, lambda n: -0.01 * n, lambda n: 0.01 * n, accuracy=0.1)),
        ("early, by chance", compared(DPO, 20, lambda n: -0.01 * n, lambda n: 0.01 * n, accuracy=0.42)),
    ],
    "rm-stuck": [
        ("learning", Seen(RM, history([0.6] * 200, accuracy=0.62))), ("a step early", Seen(RM, history([0.69] * 199, accuracy=0.5))),
        ("a new head", Seen(RM, history([0.693] * 40, accuracy=0.0, reward_margin=0.0))),
        ("learned late", Seen(RM, history([0.6] * 200, accuracy=[0.5] * 100 + [0.7] * 100))),
    ],
    "ties": [
        ("four rollouts", Seen(GRPO, history([0.0] * 8, ties=0.9))),
        ("one differs", Seen(GRPO, history([0.0] * 10, ties=[0.9] * 4 + [0.5] * 2 + [0.9] * 4))),
        ("ppo has none", Seen(About("ppo"), history([0.0] * 10))),
    ],
    "samples-endless": [
        ("three of five", Seen(SFT, samples=samples([PROSE] * 5, stopped=[True] * 2 + [False] * 3))),
        ("early in the run", Seen(SFT, samples=samples([PROSE] * 5, 499, stopped=False))),
        ("early, as before", Seen(SFT, samples=samples([PROSE] * 5, 0, stopped=False) + samples([PROSE] * 5, 499, stopped=False))),
        ("trained answers are longer", Seen(replace(SFT, answer_tokens=65), samples=samples([PROSE] * 5, stopped=False))),
        ("running text", Seen(replace(SFT, stage="pt"), samples=samples([PROSE] * 5, stopped=False))),
    ],
    "samples-collapse": [
        ("as before", Seen(SFT, samples=samples([""] * 5, 0) + samples([""] * 5, 10))),
        ("of another kind before", Seen(SFT, samples=samples([""] * 5, 0) + samples(["A" * 40] * 5, 10))),
        ("before training", Seen(SFT, samples=samples([PROSE] * 5, 0))),
        ("labels", Seen(replace(SFT, answer_tokens=9), samples=samples([*STALE.values()], 0) + samples(["Yes."] * 5, 10))),
        ("one differs", Seen(SFT, samples=samples([*STALE.values()], 0) + samples([PROSE] * 4 + ["No."], 10))),
        ("two prompts", Seen(SFT, samples=samples(["a", "b"], 0) + samples(["", ""], 10))),
    ],
    "samples-repeat": [
        ("as before", Seen(SFT, samples=samples([LOOP] * 4 + [PROSE], 0) + samples([PROSE] + [LOOP] * 4))),
        ("three of five", Seen(SFT, samples=samples([PROSE] * 5, 0) + samples([PROSE] * 2 + [LOOP] * 3))),
        ("before training", Seen(SFT, samples=samples([LOOP] * 5, 0))),
    ],
    "before-after": [
        ("one of five differs", Seen(SFT, samples=samples([*STALE.values()], 0) + samples([*[*STALE.values()][:4], "new"]))),
        ("nothing was drawn after", Seen(SFT, samples=samples([*STALE.values()], 0))),
        ("two prompts", Seen(SFT, samples=samples(["a", "b"], 0) + samples(["a", "b"]))),
    ],
    "data-waits": [
        ("shorter", Seen(SFT, waited=1.9, computed=2.0, timed=20)), ("too early", Seen(SFT, waited=4.0, computed=2.0, timed=19)),
        ("next to nothing", Seen(SFT, waited=0.09, computed=0.01, timed=20)),
    ],
}


def judge(name: str) -> Callable[[Seen], Any]:
    return next(iter(RULES[name].checks.values()))


def test_every_rule_has_a_judge_and_numbers_that_provoke_it_and_that_do_not() -> None:
    assert sorted(SPEAKS) == sorted(SILENT) == sorted(RULES)
    assert len(RULES) == 23


@pytest.mark.parametrize(("name", "case"), [(name, case) for name, cases in SPEAKS.items() for case, _ in cases])
def test_a_rule_speaks_one_sentence_with_a_remedy(name: str, case: str) -> None:
    finding = judge(name)(dict(SPEAKS[name])[case])
    assert finding is not None
    assert finding.sentence[0].isupper() or finding.sentence[0].isdigit()
    assert finding.sentence.endswith(".")
    assert finding.remedy.endswith(".")
    assert finding.values
    for value in finding.values.values():
        assert not isinstance(value, float) or math.isfinite(value)


@pytest.mark.parametrize(("name", "case"), [(name, case) for name, cases in SILENT.items() for case, _ in cases])
def test_a_rule_says_nothing_of_healthy_numbers(name: str, case: str) -> None:
    assert judge(name)(dict(SILENT[name])[case]) is None


@pytest.mark.parametrize("name", RULES)
def test_no_rule_minds_a_run_that_has_only_begun(name: str) -> None:
    for about in (SFT, DPO, RM, GRPO, About("ppo"), About("kto"), About("pt")):
        first = 0.693 if about.stage == "rm" else 2.0
        begun = history([first], accuracy=0.0, reward_chosen=0.0, reward_rejected=0.0, logp_chosen=-50.0, ties=0.1)
        assert judge(name)(Seen(about, begun)) is None


def test_what_the_sentences_say() -> None:
    def said(name: str, case: str) -> str:
        found = judge(name)(dict(SPEAKS[name])[case])
        return f"{found.sentence} {found.remedy}"

    assert said("clip-share", "two of three").startswith(
        "67% of the last 90 steps were clipped: the gradient norm is 2.5 in the middle, and trainer.max_grad_norm=1. The logged norm is "
        "the one before clipping."
    )
    assert said("rounded-away", "84 %") == (
        "84% of the adapter's weights were left as they were by each of the last 10 steps: at optim.lr=0.0001 a step is rounded away to "
        "the nearest bf16 number. Take precision.rounding=stochastic (or kahan), or a higher optim.lr."
    )
    assert "Take precision=bf16, optim=adamw precision.rounding=stochastic, or" in said("rounded-away", "muon")
    assert "is ln(50,000) = 10.82" not in said("step-zero", "above chance")
    assert "has ln(50,000) = 10.82" in said("step-zero", "above chance")
    assert "(1.5 at step 20, 1.7 now)" in said("overfit", "three rises")
    assert "the best checkpoint is that of step 20" in said("overfit", "three rises")
    assert "still guessing, which is 50 % and ln 2 = 0.693" in said("rm-stuck", "a coin")
    # 40 steps of -0.02 at beta 0.1 from the middle of the first window to that of the last: 8 nats of 50 + 1.9
    assert "has lost 8 nats of 51.9, and the margin grows (0.095 → 0.495)" in said("dpo-falls", "against the reference")


def test_the_plateau_tells_a_rate_too_low_from_data_that_teach_nothing() -> None:
    flat = [2 + 0.01 * (-1) ** n for n in range(110)]

    def remedy(ratio: float, adapter: bool) -> str:
        made = History()
        for n, loss in enumerate(flat):
            made.add(n + 1, {"train/loss": loss, "train/lr": 1e-6} | ({"train/update_ratio": ratio} if n == 63 else {}), 500)
        finding = judge("plateau")(Seen(replace(SFT, adapter=adapter, lr=1e-6), made))
        assert f"a step changes the trained weights by {'0.50%' if ratio == 5e-3 else f'{ratio:.1e}'}" in finding.sentence
        return str(finding.remedy)

    assert remedy(2e-5, adapter=True).startswith("Raise optim.lr")
    assert remedy(1e-4, adapter=False).startswith("The weights do move")
    assert remedy(5e-3, adapter=True).startswith("The weights do move")


def test_a_finding_may_be_milder_than_its_rule() -> None:
    severity = {case: judge(name)(seen).severity for name in ("step-zero", "labels-empty", "loss-zero") for case, seen in SPEAKS[name]}
    assert severity == {
        "above chance": None, "known already": Severity.warning, "a reward head that is not new": None, "masked": None,
        "all cut": Severity.warning, "sft": None, "pairs": Severity.warning,
    }
    assert {name for name, rule in RULES.items() if rule.severity is Severity.stop} == {
        "step-zero", "labels-empty", "loss-zero", "above-chance", "val-not-finite",
    }
    assert {name for name, rule in RULES.items() if rule.severity is Severity.note} == {"overfit", "dpo-falls"}


def test_wilsons_interval_by_hand() -> None:
    # p = 0.5, n = 100, z = 1.96: the middle stays, half = 1.96/(1 + 0.038416) · sqrt(0.0025 + 0.00009604) = 0.09617
    assert wilson(0.5, 100) == pytest.approx((0.40383, 0.59617), abs=1e-5)
    assert wilson(1.0, 10)[0] == pytest.approx(10 / (10 + 1.96**2))
    assert wilson(0.5, 0) == (0.0, 1.0)


def test_the_error_of_a_difference_by_hand() -> None:
    # variances 1 and 4 (of 1, 2, 3 and of 2, 4, 6), three of each
    assert error_of_difference([1, 2, 3], [2, 4, 6]) == pytest.approx(math.sqrt(1 / 3 + 4 / 3))


def test_repetition_by_hand() -> None:
    # 20 pieces have 17 4-grams, and "a b c d" in a circle has four that differ
    assert repetition("a b c d " * 5) == pytest.approx(1 - 4 / 17)
    assert repetition("学习率" * 7) == pytest.approx(1 - 3 / 18)
    assert repetition("a b c d " * 4) == 0  # 13 are too few to say
    assert repetition(PROSE) == 0


def test_a_trail_goes_through_its_state() -> None:
    made = history(FALLING, accuracy=0.5)
    made.evaluated(150, 1.5)
    made.add(151, {"train/loss": 1.0, "train/update_ratio": 0.01, "train/lr": 1e-4}, 7)
    again = History.from_state(made.state())
    assert again == made
    assert again.state() == made.state()
    again.add(152, {"train/loss": 1.0}, 7)
    assert len(again.recent) == len(made.recent) == 100
    assert len(again.first) == 50
    assert made.step == 151


def test_every_limit_says_who_says_so() -> None:
    import ast
    from pathlib import Path

    body = ast.parse(Path(limits.__file__).read_text()).body
    for here, after in pairwise(body):
        if isinstance(here, ast.Assign):
            assert isinstance(after, ast.Expr), ast.unparse(here)
            assert any(w in ast.literal_eval(after.value) for w in ("urs", "LLaMA-Factory", "float32", "usual")), ast.unparse(here)
