"""The stage of grpo and ppo: its first step by hand, what must hold before it learns, and the order of rollouts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.end_to_end.runs import rows, tiny, weights
from tests.stage.policy_runs import COUNT, GRPO, PPO, by_hand, column, taken
from torch import Tensor

from fulgurite.config.compose import compose
from fulgurite.data.sampler import StepSampler
from fulgurite.errors import ConfigError, TrainingFailed
from fulgurite.loss.policy import measure_start
from fulgurite.stage import policy
from fulgurite.stage.grpo import Group
from fulgurite.stage.policy import PolicyStage, RolloutOrder
from fulgurite.stage.ppo import Proximal
from fulgurite.stage.rollout_buffer import Cuts


@pytest.mark.parametrize("precision", ["fp32", "bf16", "pure_bf16"])
@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("stage", [GRPO, PPO], ids=["grpo", "ppo"])
def test_at_the_first_step_the_ratio_is_one_and_the_divergence_zero(
    tmp_path: Path, stage: list[str], method: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float] = []

    def spy(new_BT: Tensor, old_BT: Tensor, reference_BT: Tensor, mask_BT: Tensor) -> Tensor:
        seen.append(float(((new_BT - old_BT).exp() - 1).abs().mul(mask_BT).max()))
        seen.append(float(((new_BT - reference_BT) * mask_BT).abs().max()))
        return measure_start(new_BT, old_BT, reference_BT, mask_BT)

    monkeypatch.setattr(policy, "measure_start", spy)
    more = ["stage.kl_coefficient=0.01"] if stage is GRPO else []
    folder = tiny(tmp_path, *stage, *more, f"method={method}", f"precision={precision}", "trainer.max_steps=1",
        "trainer.micro_batch_size=5")
    assert len(seen) > 2
    assert max(seen) <= 1e-6  # also in bf16 on a CPU: both passes are cut alike
    assert rows(folder)[0]["train/kl"] == 0
    assert rows(folder)[0]["train/moved"] == 0
    assert rows(folder)[0]["train/sampling_gap"] < (1e-5 if precision == "fp32" else 0.05)


@pytest.mark.parametrize("micro", [3, 64])
@pytest.mark.parametrize("stage", ["grpo", "ppo"])
def test_a_step_is_the_gradient_by_hand_however_it_is_cut(
    tmp_path: Path, stage: str, micro: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = taken(monkeypatch)
    words = [
        f"stage={stage}", *COUNT, "method=full", "optim=sgd", "optim.momentum=0", "optim.lr=0.5", "trainer.max_steps=1",
    ]
    words += ["trainer.max_grad_norm=0", f"trainer.micro_batch_size={micro}", "trainer.global_batch_size=4"]
    folder = tiny(tmp_path, *words, *(["stage.num_generations=4"] if stage == "grpo" else []))
    buffer = kept["buffer"]
    # At the first step the ratio is 1 and nothing is clipped: −r·A has the gradient −A·∇log p.
    if stage == "grpo":
        loss, gradient = by_hand(
            kept, lambda n, logp, _: -(logp - logp.detach()).exp() * buffer.of_answer["advantages"][n]
        )
    else:
        def ppo(n: int, logp: Tensor, values: Tensor) -> Tensor:
            own = buffer.targets_NT[n] >= 0
            returns = buffer.of_token["returns"][n][own]
            return (
                -(logp - logp.detach()).exp() * buffer.of_token["advantages"][n][own]
                + 0.1 * 0.5 * (values - returns) ** 2
            )

        loss, gradient = by_hand(kept, ppo)
    assert rows(folder)[0]["train/loss"] == pytest.approx(loss, abs=1e-6)
    after = weights(folder)
    before = {f"model.{n}": p.detach() for n, p in kept["model"].named_parameters()}
    before |= {f"value_head.{n}": p.detach() for n, p in kept["value"].named_parameters()} if stage == "ppo" else {}
    assert after.keys() == before.keys()
    for name, tensor in after.items():
        torch.testing.assert_close(tensor - before[name], -0.5 * gradient[name], rtol=2e-3, atol=3e-7)


@pytest.mark.parametrize("stage", ["grpo", "ppo"])
def test_ratios_and_values_are_clipped_in_the_second_pass_as_by_hand(
    tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """clip_low, clip_high and value_clip, token by token in plain numbers."""
    objective: Any = {"grpo": Group, "ppo": Proximal}[stage]
    inner, seen = objective.compute_loss, []

    def spy(self: Any, batch: dict[str, Any], new_BT: Tensor, values_BT: Tensor) -> tuple[Tensor, Tensor]:
        seen.append((batch, new_BT.detach(), values_BT.detach()))
        return inner(self, batch, new_BT, values_BT)  # type: ignore[no-any-return]

    monkeypatch.setattr(objective, "compute_loss", spy)
    words = [f"stage={stage}", *COUNT, "method=full", "optim.lr=5e-3", "trainer.max_steps=2",
        "stage.epochs_per_rollout=2"]
    words += ["stage.clip_low=0.01", "stage.clip_high=0.03", "trainer.micro_batch_size=64",
        f"trainer.global_batch_size={4 if stage == 'grpo' else 32}"]
    found = rows(tiny(tmp_path, *words, *(["stage.value_clip=0.02"] if stage == "ppo" else [])))
    clipped, limited = [0, 0], [0, 0]
    for n, (row, (batch, new_BT, values_BT)) in enumerate(zip(found, seen, strict=True)):
        total, tokens = 0.0, (batch["targets"] >= 0).nonzero().tolist()
        for b, t in tokens:
            ratio = math.exp(new_BT[b, t] - batch["old"][b, t])
            advantage = float(batch["advantages"][b] if stage == "grpo" else batch["advantages"][b, t])
            total -= min(ratio * advantage, min(max(ratio, 0.99), 1.03) * advantage)
            clipped[n] += (ratio < 0.99 and advantage < 0) or (ratio > 1.03 and advantage > 0)
            if stage == "ppo":
                value, before, returned = (float(x[b, t]) for x in (values_BT, batch["values"], batch["returns"]))
                near = min(max(value, before - 0.02), before + 0.02)
                limited[n] += near != value
                total += 0.1 * 0.5 * max((value - returned) ** 2, (near - returned) ** 2)
        assert row["train/loss"] == pytest.approx(total / len(tokens), rel=1e-4, abs=1e-5)
        assert row["train/clipped_share"] == pytest.approx(clipped[n] / len(tokens))
    assert clipped[0] == limited[0] == 0 < clipped[1]
    assert limited[1] > 0 or stage == "grpo"


def test_the_evaluation_is_the_reward_on_held_out_prompts_and_the_best_has_the_highest(tmp_path: Path) -> None:
    words = [*GRPO, "trainer.global_batch_size=4", "stage.num_generations=2", "data.val_fraction=0.3"]
    more = ["method=full", "optim.lr=1e-2", "trainer.max_steps=6", "trainer.eval_every=2", "trainer.keep_checkpoints=9"]
    folder = tiny(tmp_path, *words, *more)
    rewards = column(folder, "val/reward")
    assert len(rewards) == 3
    assert column(folder, "val/loss") == [-r for r in rewards]
    best = 2 * (rewards.index(max(rewards)) + 1)
    assert (folder / "checkpoints" / "best").resolve().name == f"step-{best}"
    still = tiny(tmp_path / "still", *words, "optim.lr=1e-12", "trainer.max_steps=2", "trainer.eval_every=1")
    first, second = column(still, "val/reward")
    assert first == second


def test_a_divergence_below_zero_by_more_than_chance_stops_after_five_rollouts() -> None:
    stage = PolicyStage.__new__(PolicyStage)
    torch.nn.Module.__init__(stage)
    stage._negative, stage.objective = 0, type("O", (), {"kl_limit": 10.0})()

    def rollout(kl: float, error: float) -> None:
        record = {"train/kl": kl, "kl_error": error}
        stage._refuse_runaway(type("B", (), {"record": record, "number": 6})())  # type: ignore[arg-type]

    for _ in range(20):
        rollout(-0.1, 0.06)  # within two standard errors
    for _ in range(4):
        rollout(-0.1, 0.01)
    rollout(0.1, 0.01)
    for _ in range(4):
        rollout(-0.1, 0.01)
    with pytest.raises(TrainingFailed, match=r"Rollout 7: .* below zero in five rollouts in a row"):
        rollout(-0.1, 0.01)


def test_sampling_from_another_policy_stops_before_anything_is_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fulgurite.stage import policy

    plain = policy.TransformersRollouts

    def hotter(*args: Any, temperature: float, **more: Any) -> Any:
        return plain(*args, temperature=0.5 * temperature, **more)

    monkeypatch.setattr(policy, "TransformersRollouts", hotter)
    with pytest.raises(
        TrainingFailed, match="Rollout 1: the log-probabilities of a token in sampling and in training differ by"
    ):
        tiny(tmp_path, *GRPO)


def test_a_reference_that_is_not_the_start_stops_at_step_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fulgurite.stage.reference import AdapterOff

    right = AdapterOff.__call__
    monkeypatch.setattr(AdapterOff, "__call__", lambda self, batch: right(self, batch) + 0.01)
    with pytest.raises(
        TrainingFailed, match=r"Step 1: the divergence from the reference is off by 0\.01 before anything was learned"
    ):
        tiny(tmp_path, *PPO)


def test_an_answer_that_the_model_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"stage\.max_new_tokens=1000 after a prompt of \d+ tokens is more than the 1024"
    ):
        tiny(tmp_path, *GRPO, "stage.max_new_tokens=1000", "data.max_length=64")


def test_each_epoch_answers_every_prompt_and_fills_up_its_last_rollout() -> None:
    cuts = Cuts(8, 2, 3, 4, 42)
    order = RolloutOrder(10, 4, cuts, 42, True)
    assert (order.steps_per_epoch, order.micro_batches_per_step, cuts.steps) == (18, 1, 6)
    assert isinstance(order, StepSampler)
    for epoch in (0, 1):
        rollouts = [order.list_micro_batches(epoch * 18 + r * 6)[0] for r in range(3)]
        assert all(
            order.list_micro_batches(epoch * 18 + r * 6 + s)[0] == rollouts[r] for r in range(3) for s in range(6)
        )
        flat = [n for rollout in rollouts for n in rollout]
        assert sorted(flat[:10]) == list(range(10))
        assert flat[10:] == flat[:2]
    assert order.list_micro_batches(0) != order.list_micro_batches(18)


def test_fewer_prompts_than_a_rollout_wants_are_answered_again(tmp_path: Path) -> None:
    data = tmp_path / "p.jsonl"
    data.write_text('{"prompt": "One?"}\n{"prompt": "Two?"}\n{"prompt": "Three?"}\n')
    folder = tiny(tmp_path / "run", *GRPO, "data=file", f"data.path={data}", "trainer.max_steps=2")
    assert len(column(folder, "train/reward")) == 2


def test_a_divergence_that_runs_away_stops_grpo_as_well() -> None:
    stage = PolicyStage.__new__(PolicyStage)
    torch.nn.Module.__init__(stage)
    stage._negative, stage.objective = 0, Group(compose(["stage=grpo", "stage.kl_coefficient=0.01"]).run.stage)

    def rollout(kl: float) -> None:
        stage._refuse_runaway(type("B", (), {"record": {"train/kl": kl}, "number": 6})())  # type: ignore[arg-type]

    rollout(1.99)
    with pytest.raises(TrainingFailed, match=r"Rollout 7: the divergence from the start is 2\.01 nats, more than 2: "
        r".*stage\.kl_coefficient"):
        rollout(2.01)
