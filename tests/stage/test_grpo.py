"""What GRPO makes of a rollout before it learns from it, number by number: advantages of a group, and the loss."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.end_to_end.runs import rows, tiny, weights
from tests.stage.policy_runs import GRPO, column, taken

from fulgurite.config.compose import compose
from fulgurite.stage.grpo import Group
from fulgurite.stage.rollout_buffer import Buffer


def stage_of(*words: str) -> Any:
    return compose([*words, "stage.reward=['length:3']"]).run.stage


@pytest.mark.parametrize(("scale", "expected"), [
    # rewards 1, 3 and 0, 0: means 2 and 0, the first group's deviation √2, the second ties
    (True, [-1 / (2**0.5 + 1e-4), 1 / (2**0.5 + 1e-4), 0.0, 0.0]), (False, [-1.0, 1.0, 0.0, 0.0]),
])
def test_scale_by_deviation_in_a_rollout(scale: bool, expected: list[float]) -> None:
    group = Group(stage_of("stage=grpo", "stage.num_generations=2", f"stage.scale_rewards={scale}"))
    buffer = Buffer(0, [0, 0, 1, 1], [3] * 4, torch.zeros(4, 3, dtype=torch.int64), torch.full((4, 3), 5), {})
    group.prepare(buffer, torch.tensor([1.0, 3, 0, 0]), torch.zeros(4, dtype=torch.bool))
    assert buffer.of_answer["advantages"].tolist() == pytest.approx(expected)
    assert buffer.record["train/ties"] == 0.5


@pytest.mark.parametrize(("penalty", "expected", "ties"), [
    # rewards 1, 3 and 0, 0; the second and the third were cut: with 0.5 the groups are 1, 2.5 and -0.5, 0
    (0.5, [-0.75, 0.75, -0.25, 0.25], 0.0), (0.0, [-1.0, 1.0, 0.0, 0.0], 0.5),
])
def test_cut_penalty_in_a_rollout_of_grpo(penalty: float, expected: list[float], ties: float) -> None:
    group = Group(stage_of("stage=grpo", "stage.num_generations=2", "stage.scale_rewards=false",
        f"stage.missing_eos_penalty={penalty}"))
    buffer = Buffer(0, [0, 0, 1, 1], [3] * 4, torch.zeros(4, 3, dtype=torch.int64), torch.full((4, 3), 5), {})
    group.prepare(buffer, torch.tensor([1.0, 3, 0, 0]), torch.tensor([False, True, True, False]))
    assert buffer.of_answer["advantages"].tolist() == pytest.approx(expected)
    assert buffer.record["train/ties"] == ties
    assert buffer.mask_NT.sum() == 12  # they stay in the loss


def test_scale_by_deviation_divides_what_a_run_learns_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [
        *GRPO, "method=full", "optim=sgd", "optim.momentum=0", "optim.lr=0.5", "trainer.max_steps=1",
        "trainer.max_grad_norm=0",
    ]
    made = []
    for scale in ("true", "false"):
        with monkeypatch.context() as patch:
            kept = taken(patch)
            folder = tiny(tmp_path / scale, *words, f"stage.scale_rewards={scale}")
        made.append((kept["buffer"].of_answer["advantages"].view(-1, 8), rows(folder)[0]["train/grad_norm"]))
    (scaled, first), (plain, second) = made
    torch.testing.assert_close(
        scaled, plain / (plain.std(1, keepdim=True) + 1e-4)
    )  # plain differs from the rewards by a mean
    assert plain.std(1).min() > 0
    assert 0 < first != second


def test_cut_penalty_is_what_a_run_of_grpo_learns_from(tmp_path: Path) -> None:
    """Rewards that tie teach nothing by themselves: what a group learns then is to end."""
    words = [*GRPO, "stage.reward=['regex:.*']", "method=full", "trainer.max_steps=1", "stage.max_new_tokens=60",
        "trainer.global_batch_size=4"]
    plain, priced = rows(tiny(tmp_path / "a", *words))[0], rows(tiny(tmp_path / "b", *words,
        "stage.missing_eos_penalty=1"))[0]
    assert 0 < plain["train/cut"] == priced["train/cut"] < 1
    assert (plain["train/ties"], plain["train/grad_norm"]) == (1.0, 0.0)
    assert priced["train/grad_norm"] > 0
    assert plain["train/reward"] == priced["train/reward"] == 1.0  # the penalty is no part of the reward that is told


def test_a_group_that_ties_teaches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = taken(monkeypatch)
    folder = tiny(tmp_path, *GRPO, "stage.reward=['regex:.*']", "method=full", "trainer.max_steps=2", "optim.lr=1e-2")
    assert column(folder, "train/ties") == [1.0, 1.0]
    assert column(folder, "train/grad_norm") == [0.0, 0.0]
    for name, parameter in kept["model"].named_parameters():
        torch.testing.assert_close(weights(folder)[f"model.{name}"], parameter.detach(), rtol=0, atol=0)


def test_mask_truncated_leaves_cut_answers_out_of_the_loss(tmp_path: Path) -> None:
    words = [*GRPO, "method=full", "trainer.max_steps=1", "stage.max_new_tokens=60", "trainer.global_batch_size=4"]
    plain, masked = rows(tiny(tmp_path / "a", *words))[0], rows(tiny(tmp_path / "b", *words,
        "stage.mask_truncated=true"))[0]
    cut = round(plain["train/cut"] * 32)
    assert 0 < cut < 32
    assert plain["tokens"] - masked["tokens"] == 60 * cut


@pytest.mark.parametrize(("loss", "expected"), [
    # a rollout of six tokens in two steps, of which this one has the answers of 3 and 1 tokens; at most 5 each
    ("grpo", 2.0), ("bnpo", 4.0), ("dapo", 6 / 2), ("dr_grpo", 2 * 5.0),
])
def test_each_loss_divides_a_step_by_its_own_number(loss: str, expected: float) -> None:
    group = Group(stage_of("stage=grpo", f"stage.loss={loss}", "stage.minibatches=2", "stage.max_new_tokens=5"))
    targets = torch.tensor([[5, 5, 5], [-100, 5, 5], [5, -100, -100]])
    buffer = Buffer(0, [0, 0, 1], [3] * 3, torch.zeros(3, 3, dtype=torch.int64), targets, {})
    assert group.compute_divisor(buffer, [0, 2]) == expected


def test_the_divergence_costs_its_coefficient_times_k3() -> None:
    """k3 = exp(reference - new) - (reference - new) - 1, Schulman; nothing is clipped at a ratio of 1."""
    new, reference = torch.tensor([[-1.0, -2.0]]), torch.tensor([[-1.5, -1.0]])
    batch = {"targets": torch.tensor([[5, 6]]), "old": new, "advantages": torch.tensor([2.0]), "reference": reference}
    k3 = [math.exp(gap) - gap - 1 for gap in (-0.5, 1.0)]
    for coefficient in (0.0, 0.3):
        group = Group(stage_of("stage=grpo", f"stage.kl_coefficient={coefficient}"))
        assert group.refers == (coefficient > 0)
        loss, clipped = group.compute_loss(batch, new, torch.zeros(1, 2))
        assert float(loss) == pytest.approx(-2 * 2.0 + coefficient * sum(k3))
        assert not clipped.any()
