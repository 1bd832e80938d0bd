"""What PPO makes of a rollout before it learns from it, number by number: reward, divergence, advantages, returns."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.end_to_end.runs import rows, tiny
from tests.stage.policy_runs import PPO, taken
from torch import Tensor

from fulgurite.config.compose import compose
from fulgurite.stage.grpo import Group
from fulgurite.stage.ppo import Proximal
from fulgurite.stage.rollout_buffer import IGNORE, Buffer

OLD = [[-1.0, -2.0, -0.5], [-0.7, -1.2]]
REFERENCE = [[-1.5, -1.0, -0.9], [-0.7, -2.0]]
VALUES = [[0.3, -0.2, 0.5], [0.1, 0.4]]
REWARDS, CUT = [2.0, -1.0], [0.0, 1.0]
BEFORE = [2, 1]
"""Prompt tokens; an answer's first token is chosen at the last of them."""


def rollout() -> Buffer:
    """Two answers, of three tokens and of two, of which the second was cut; beside them numbers that must not count."""
    targets = torch.full((2, 6), IGNORE)
    known = {name: torch.full((2, 6), 77.0) for name in ("old", "reference", "values")}
    for n, answer in enumerate(OLD):
        begin, end = BEFORE[n] - 1, BEFORE[n] - 1 + len(answer)
        targets[n, begin:end] = torch.arange(len(answer)) + 5
        for name, source in (("old", OLD), ("reference", REFERENCE), ("values", VALUES)):
            known[name][n, begin:end] = torch.tensor(source[n])
    known["reference"][targets == IGNORE] = 3.0
    return Buffer(0, [0, 1], [5, 3], torch.zeros(2, 6, dtype=torch.int64), targets, known)


def by_hand(
    *, coefficient: float, cut: float, whiten_rewards: bool, whiten: bool, discount: float, smoothing: float
) -> Any:
    """The same in loops: Schulman's k1, a reward at the last token, GAE from the end, no value behind it."""
    rewards = [
        [-coefficient * (o - r) for o, r in zip(old, reference, strict=True)] for old,
        reference in zip(OLD, REFERENCE, strict=True)
    ]
    for n, row in enumerate(rewards):
        row[-1] += REWARDS[n] - cut * CUT[n]
    if whiten_rewards:  # variance 1, the mean kept
        every = np.array(list(itertools.chain(*rewards)))
        scale = np.sqrt(every.var(ddof=1) + 1e-8)
        rewards = [[(x - every.mean()) / scale + every.mean() for x in row] for row in rewards]
    advantages, returns = [], []
    for row, values in zip(rewards, VALUES, strict=True):
        found, later = [0.0] * len(row), 0.0
        for t in reversed(range(len(row))):
            following = values[t + 1] if t + 1 < len(row) else 0.0
            later = row[t] + discount * following - values[t] + discount * smoothing * later
            found[t] = later
        advantages.append(found)
        returns.append([a + v for a, v in zip(found, values, strict=True)])
    if whiten:
        every = np.array(list(itertools.chain(*advantages)))
        advantages = [[(x - every.mean()) / np.sqrt(every.var(ddof=1) + 1e-8) for x in row] for row in advantages]
    return advantages, returns


def placed(buffer: Buffer, name: str) -> list[list[float]]:
    return [buffer.of_token[name][n][buffer.targets_NT[n] != IGNORE].tolist() for n in range(2)]


@pytest.mark.parametrize("whiten_rewards", [False, True])
@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize(("coefficient", "cut"), [(0.2, 1.0), (0.0, 0.5), (0.2, 0.0)])
def test_advantages_and_returns_by_hand(coefficient: float, cut: float, whiten: bool, whiten_rewards: bool) -> None:
    stage = compose([
        "stage=ppo", f"stage.kl_coefficient={coefficient}", f"stage.missing_eos_penalty={cut}",
        f"stage.whiten_advantages={whiten}",
        f"stage.whiten_rewards={whiten_rewards}", "stage.gamma_discount=0.9", "stage.gae_lambda=0.8",
        "stage.reward=['length:3']",
    ]).run.stage
    buffer, proximal = rollout(), Proximal(stage)
    proximal.prepare(buffer, torch.tensor(REWARDS), torch.tensor(CUT))
    advantages, returns = by_hand(
        coefficient=coefficient, cut=cut, whiten_rewards=whiten_rewards, whiten=whiten, discount=0.9, smoothing=0.8,
    )
    for found, wanted in ((placed(buffer, "advantages"), advantages), (placed(buffer, "returns"), returns)):
        for mine, by_loop in zip(found, wanted, strict=True):
            assert mine == pytest.approx(by_loop, abs=2e-6)
    # nats an answer: -1 + 1.5 - 2 + 1 - 0.5 + 0.9 = -0.1 and 0.8
    assert buffer.record["train/kl"] == pytest.approx((-0.1 + 0.8) / 2, abs=1e-6)
    assert proximal.coefficient == coefficient


def test_a_policy_that_left_its_reference_pays_and_one_that_did_not_does_not() -> None:
    """The sign: a token that the policy finds likelier than the reference does costs reward."""
    words = ["stage.whiten_advantages=false", "stage.gamma_discount=1", "stage.gae_lambda=1",
        "stage.reward=['length:3']"]
    stage = compose(["stage=ppo", *words]).run.stage

    def returned(reference: float) -> Tensor:
        buffer = rollout()
        buffer.of_token["reference"] = torch.full((2, 6), reference)
        Proximal(stage).prepare(buffer, torch.tensor(REWARDS), torch.zeros(2))
        return buffer.of_token["returns"][0, 1]

    assert returned(-5.0) < returned(-1.0) < returned(0.0)


def test_an_adaptive_coefficient_follows_its_target() -> None:
    """Ziegler et al. 2019, section 2.2: a proportional error clipped at 0.2, over the horizon."""
    words = [
        "stage=ppo", "stage.kl_control=adaptive", "stage.kl_coefficient=0.2", "stage.kl_horizon=100",
        "stage.reward=['length:3']",
    ]
    for target, factor in ((6.0, 1 - 0.2 * 2 / 100), (0.34, 1 + (0.35 / 0.34 - 1) * 2 / 100)):
        proximal = Proximal(compose([*words, f"stage.kl_target={target}"]).run.stage)
        proximal.prepare(rollout(), torch.tensor(REWARDS), torch.tensor(CUT))
        assert proximal.coefficient == pytest.approx(0.2 * factor, rel=1e-6)


# -- what the knobs make of a step: the loss and its gradient, by hand


def stage_of(*words: str) -> Any:
    return compose([*words, "stage.reward=['length:3']"]).run.stage


def step(**numbers: list[float]) -> dict[str, Tensor]:
    """One answer of two tokens, all numbers by token."""
    return {"targets": torch.tensor([[5, 6]])} | {name: torch.tensor([values]) for name, values in numbers.items()}


@pytest.mark.parametrize(("clip", "loss", "slopes"), [
    # values 1.0 and 0.1, at the rollout 0.5 and 0.0, returns 2.0 and 0.0: with 0.2 the first may count as 0.7 at
    # most, which is farther off (½·1.3² = 0.845) and has no slope, the second stays as it is
    # (½·0.1² = 0.005, slope 0.1)
    (0.2, 0.845 + 0.005, [0.0, 0.1]),
    # with 1.0 nothing is limited: ½·1² = 0.5, slope 1 - 2
    (1.0, 0.5 + 0.005, [-1.0, 0.1]),
])
def test_value_clip_in_ppos_loss(clip: float, loss: float, slopes: list[float]) -> None:
    proximal = Proximal(stage_of("stage=ppo", f"stage.value_clip={clip}", "stage.vf_coef=0.5"))
    values = torch.tensor([[1.0, 0.1]], requires_grad=True)
    batch = step(old=[-1.0, -1.0], advantages=[0.0, 0.0], values=[0.5, 0.0], returns=[2.0, 0.0])
    found, _ = proximal.compute_loss(batch, torch.full((1, 2), -1.0), values)
    found.backward()
    assert float(found.detach()) == pytest.approx(0.5 * loss)
    assert values.grad is not None
    assert values.grad[0].tolist() == pytest.approx([0.5 * s for s in slopes])


@pytest.mark.parametrize("stage", ["grpo", "ppo"])
@pytest.mark.parametrize(("low", "loss", "slope", "clipped"), [
    # the ratio fell to 0.7 under an advantage of -2: with 0.2 it counts as 0.8 and is no longer pushed, with 0.4 it is
    (0.2, 0.8 * 2, 0.0, True), (0.4, 0.7 * 2, 0.7 * 2, False),
])
def test_clip_low_in_both_losses(stage: str, low: float, loss: float, slope: float, clipped: bool) -> None:
    objective = {"grpo": Group, "ppo": Proximal}[stage](stage_of(f"stage={stage}", f"stage.clip_low={low}"))
    new = torch.tensor([[np.log(0.7), 0.0]], dtype=torch.float32, requires_grad=True)
    each = {"old": [0.0, 0.0], "values": [0.0, 0.0], "returns": [0.0, 0.0], "advantages": [-2.0, 0.0]}
    batch = step(**each) | ({"advantages": torch.tensor([-2.0])} if stage == "grpo" else {})
    found, cut = objective.compute_loss(batch, new, torch.zeros(1, 2))
    found.backward()
    rest = 2.0 if stage == "grpo" else 0.0  # grpo's advantage is the answer's, the second token's ratio 1
    assert float(found.detach()) == pytest.approx(loss + rest)
    assert new.grad is not None
    assert new.grad[0].tolist() == pytest.approx([slope, rest])
    assert cut[0].tolist() == [clipped, False]


def test_whiten_rewards_brings_what_a_run_learns_from_to_variance_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*PPO, "method=full", "trainer.max_steps=1", "stage.gae_lambda=1", "stage.gamma_discount=1",
        "stage.whiten_advantages=false"]
    made = []
    for white in ("true", "false"):
        with monkeypatch.context() as patch:
            kept = taken(patch)
            folder = tiny(tmp_path / white, *words, f"stage.whiten_rewards={white}")
        buffer = kept["buffer"]
        # without discount a return is the sum of what is to come, so that a token's own reward is the difference of two
        later = torch.nn.functional.pad(buffer.of_token["returns"], (0, 1))[:, 1:]
        own = (buffer.of_token["returns"] - later)[buffer.targets_NT >= 0]
        made.append((own, rows(folder)[0]["train/grad_norm"]))
    (white, first), (plain, second) = made
    torch.testing.assert_close(white, (plain - plain.mean()) / plain.std() + plain.mean(), rtol=1e-4, atol=1e-5)
    assert 0 < first != second
