"""`stage=grpo` and `stage=ppo` on the tiny model: they learn, step as the formulas say, resume bit for bit, and stop with a reason."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import cells
from tests.end_to_end.runs import rows, tiny, weights
from torch import Tensor
from transformers import AutoModelForCausalLM

from fulgurite.config.compose import compose
from fulgurite.config.schema import list_options
from fulgurite.data.example import Message
from fulgurite.data.sampler import StepSampler
from fulgurite.errors import ConfigError, ModelError, RequestError, TrainingFailed
from fulgurite.export.model import export_main
from fulgurite.model.reward_head import compute_rewards
from fulgurite.run.load import load_run
from fulgurite.run.reward_model import load_reward_model
from fulgurite.stage.grpo import Group
from fulgurite.stage.policy import PolicyStage, RolloutOrder
from fulgurite.stage.ppo import Proximal
from fulgurite.stage.reward_functions import Answered
from fulgurite.stage.rollout_buffer import Cuts

COUNT = ["stage.reward=['count:e']", "stage.max_new_tokens=12", "data.val_fraction=0", "scheduler=constant"]
GRPO = ["stage=grpo", *COUNT, "trainer.global_batch_size=8"]
PPO = ["stage=ppo", *COUNT, "trainer.global_batch_size=32", "stage.minibatches=2", "stage.epochs_per_rollout=2"]


def column(folder: Path, name: str) -> list[float]:
    return [row[name] for row in rows(folder) if name in row]


def gain(folder: Path) -> float:
    """The mean reward of the last four rollouts less that of the first four."""
    found = column(folder, "train/reward")
    return sum(found[-4:]) / 4 - sum(found[:4]) / 4


def test_the_stages_that_answer_are_two() -> None:
    assert [n for n in list_options("stage") if n in ("grpo", "ppo")] == ["grpo", "ppo"]


# -- they learn: a random model writes 2.3 letters e in twelve tokens --------------------------------------------------


FURTHER = [pytest.param(loss, marks=pytest.mark.matrix) for loss in ("grpo", "bnpo", "dr_grpo")]
"""Their formulas are held in tests/loss/test_policy.py."""


@pytest.mark.parametrize("loss", ["dapo", *FURTHER])
def test_grpo_raises_a_count_by_five(tmp_path: Path, loss: str) -> None:
    words = ["method=full", "optim.lr=5e-3", "trainer.max_steps=22", f"stage.loss={loss}"]
    folder = tiny(tmp_path, *GRPO, *words)
    assert gain(folder) > 5
    assert not (folder / "watch.jsonl").exists()  # the watch says nothing of a healthy run


@pytest.fixture
def wide(tmp_path: Path) -> list[str]:
    """A wider model and short prompts: an adapter cannot move the logits of the narrow one by much, for its head stays as it is."""
    (tmp_path / "p.jsonl").write_text("".join(json.dumps({"prompt": f"Number {n}?"}) + "\n" for n in range(40)))
    words = ["data=file", f"data.path={tmp_path / 'p.jsonl'}", "model.hidden=256", "model.layers=1", "method=lora"]
    return [*words, "stage.max_new_tokens=8"]


def test_grpo_with_lora_raises_a_count_by_one_and_a_half(tmp_path: Path, wide: list[str]) -> None:
    folder = tiny(tmp_path / "run", *GRPO, *wide, "optim.lr=1e-2", "trainer.max_steps=30", "stage.kl_coefficient=0.001")
    assert gain(folder) > 1.5  # from 1.6 in eight tokens
    assert column(folder, "train/kl")[-1] > 0


def test_ppo_raises_a_count_by_two_and_its_value_head_knows_it(tmp_path: Path) -> None:
    words = ["method=full", "optim.lr=3e-3", "trainer.max_steps=68", "stage.kl_coefficient=0.3"]
    folder = tiny(tmp_path, *PPO, *words)
    assert gain(folder) > 2
    assert not (folder / "watch.jsonl").exists()  # the watch says nothing of a healthy run
    assert column(folder, "train/value")[0] == 0
    assert column(folder, "train/value")[-1] > 1


def test_ppo_with_lora_raises_a_count_by_one_and_a_half(tmp_path: Path, wide: list[str]) -> None:
    words = ["optim.lr=5e-3", "trainer.max_steps=46", "trainer.global_batch_size=64", "stage.minibatches=1",
        "stage.kl_coefficient=0.02"]
    folder = tiny(tmp_path / "run", *PPO, *wide, *words, "stage.gae_lambda=1", "stage.missing_eos_penalty=0")
    assert gain(folder) > 1.5  # from 1.6 in eight tokens


def test_a_format_is_learned_from_a_column_by_several_rewards(tmp_path: Path) -> None:
    data, code = tmp_path / "p.jsonl", tmp_path / "mine.py"
    data.write_text("".join(json.dumps({"prompt": f"Number {n}?", "letter": "e"}) + "\n" for n in range(20)))
    code.write_text("def share(answers, letter, **rest):\n    return [a.count(x) / 10 for a, x in zip(answers, letter)]\n")
    words = ["data=file", f"data.path={data}", f"stage.reward=['{code}:share','length:3']", "stage.reward_weights=[1.0,2.0]"]
    folder = tiny(tmp_path / "run", *GRPO, *words, "method=full", "optim.lr=5e-3", "trainer.max_steps=25")
    last = rows(folder)[-1]
    assert gain(folder) > 0.15
    total = last[f"train/reward/{code.name}:share"] + 2 * last["train/reward/length:3"]
    assert last["train/reward"] == pytest.approx(total)


# -- the first step ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["fp32", "bf16", "pure_bf16"])
@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("stage", [GRPO, PPO], ids=["grpo", "ppo"])
def test_at_the_first_step_the_ratio_is_one_and_the_divergence_zero(
    tmp_path: Path, stage: list[str], method: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float] = []
    check = PolicyStage._refuse_unequal_start

    def spy(self: PolicyStage, new_BT: Tensor, batch: dict[str, Any], mask_BT: Tensor) -> None:
        seen.append(float(((new_BT - batch["old"]).exp() - 1).abs().mul(mask_BT).max()))
        seen.append(float(((new_BT - batch["reference"]) * mask_BT).abs().max()))
        check(self, new_BT, batch, mask_BT)

    monkeypatch.setattr(PolicyStage, "_refuse_unequal_start", spy)
    more = ["stage.kl_coefficient=0.01"] if stage is GRPO else []
    folder = tiny(tmp_path, *stage, *more, f"method={method}", f"precision={precision}", "trainer.max_steps=1",
        "trainer.micro_batch_size=5")
    assert len(seen) > 2
    assert max(seen) <= 1e-6  # also in bf16 on a CPU: both passes are cut alike
    assert rows(folder)[0]["train/kl"] == 0
    assert rows(folder)[0]["train/moved"] == 0
    assert rows(folder)[0]["train/sampling_gap"] < (1e-5 if precision == "fp32" else 0.05)


def taken(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The stage's model before its first step, and the rollout it learned from."""
    kept: dict[str, Any] = {}
    step = PolicyStage.training_step

    def spy(self: PolicyStage, batch: dict[str, Any], batch_idx: int) -> Tensor:
        if not kept:
            parts = {"model": self.model, "buffer": self.buffer, "value": getattr(self, "value_head", None)}
            kept.update({name: copy.deepcopy(part) for name, part in parts.items()})
        return step(self, batch, batch_idx)

    monkeypatch.setattr(PolicyStage, "training_step", spy)
    return kept


def by_hand(kept: dict[str, Any], losses: Callable[[int, Tensor, Tensor], Tensor]) -> tuple[float, dict[str, Tensor]]:
    """The mean over all tokens of `losses(answer, log-probabilities, values)` and its gradient, one answer at a time."""
    model, buffer, value = kept["model"], kept["buffer"], kept["value"]
    total, tokens = torch.zeros(()), 0
    for n, length in enumerate(buffer.lengths):
        chosen = buffer.targets_NT[n, :length] >= 0
        out = model(input_ids=buffer.ids_NT[n : n + 1, :length], output_hidden_states=True)
        logp = out.logits[0].log_softmax(-1)[chosen].gather(1, buffer.targets_NT[n, :length][chosen][:, None])[:, 0]
        values = value(out.hidden_states[-1][0])[chosen][:, 0] if value is not None else torch.zeros(())
        total, tokens = total + losses(n, logp, values).sum(), tokens + int(chosen.sum())
    (total / tokens).backward()
    found = {f"model.{name}": p.grad for name, p in model.named_parameters()}
    found |= {f"value_head.{name}": p.grad for name, p in value.named_parameters()} if value is not None else {}
    return float(total.detach()) / tokens, found


@pytest.mark.parametrize("micro", [3, 64])
@pytest.mark.parametrize("stage", ["grpo", "ppo"])
def test_a_step_is_the_gradient_by_hand_however_it_is_cut(tmp_path: Path, stage: str, micro: int, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = taken(monkeypatch)
    words = [f"stage={stage}", *COUNT, "method=full", "optim=sgd", "optim.momentum=0", "optim.lr=0.5", "trainer.max_steps=1"]
    words += ["trainer.max_grad_norm=0", f"trainer.micro_batch_size={micro}", "trainer.global_batch_size=4"]
    folder = tiny(tmp_path, *words, *(["stage.num_generations=4"] if stage == "grpo" else []))
    buffer = kept["buffer"]
    # At the first step the ratio is 1 and nothing is clipped: −r·A has the gradient −A·∇log p.
    if stage == "grpo":
        loss, gradient = by_hand(kept, lambda n, logp, _: -(logp - logp.detach()).exp() * buffer.of_answer["advantages"][n])
    else:
        def ppo(n: int, logp: Tensor, values: Tensor) -> Tensor:
            own = buffer.targets_NT[n] >= 0
            returns = buffer.of_token["returns"][n][own]
            return -(logp - logp.detach()).exp() * buffer.of_token["advantages"][n][own] + 0.1 * 0.5 * (values - returns) ** 2

        loss, gradient = by_hand(kept, ppo)
    assert rows(folder)[0]["train/loss"] == pytest.approx(loss, abs=1e-6)
    after = weights(folder)
    before = {f"model.{n}": p.detach() for n, p in kept["model"].named_parameters()}
    before |= {f"value_head.{n}": p.detach() for n, p in kept["value"].named_parameters()} if stage == "ppo" else {}
    assert after.keys() == before.keys()
    for name, tensor in after.items():
        torch.testing.assert_close(tensor - before[name], -0.5 * gradient[name], rtol=2e-3, atol=3e-7)


@pytest.mark.parametrize("stage", ["grpo", "ppo"])
def test_the_limits_bite_in_the_second_pass_as_the_formula_says(tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_scale_by_deviation_divides_what_a_run_learns_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [*GRPO, "method=full", "optim=sgd", "optim.momentum=0", "optim.lr=0.5", "trainer.max_steps=1", "trainer.max_grad_norm=0"]
    made = []
    for scale in ("true", "false"):
        with monkeypatch.context() as patch:
            kept = taken(patch)
            folder = tiny(tmp_path / scale, *words, f"stage.scale_rewards={scale}")
        made.append((kept["buffer"].of_answer["advantages"].view(-1, 8), rows(folder)[0]["train/grad_norm"]))
    (scaled, first), (plain, second) = made
    torch.testing.assert_close(scaled, plain / (plain.std(1, keepdim=True) + 1e-4))  # plain differs from the rewards by a mean
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


def test_whiten_rewards_brings_what_a_run_learns_from_to_variance_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_group_that_ties_teaches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = taken(monkeypatch)
    folder = tiny(tmp_path, *GRPO, "stage.reward=['regex:.*']", "method=full", "trainer.max_steps=2", "optim.lr=1e-2")
    assert column(folder, "train/ties") == [1.0, 1.0]
    assert column(folder, "train/grad_norm") == [0.0, 0.0]
    for name, parameter in kept["model"].named_parameters():
        torch.testing.assert_close(weights(folder)[f"model.{name}"], parameter.detach(), rtol=0, atol=0)


def test_cut_answers_are_left_out_where_that_is_asked(tmp_path: Path) -> None:
    words = [*GRPO, "method=full", "trainer.max_steps=1", "stage.max_new_tokens=60", "trainer.global_batch_size=4"]
    plain, masked = rows(tiny(tmp_path / "a", *words))[0], rows(tiny(tmp_path / "b", *words,
        "stage.mask_truncated=true"))[0]
    cut = round(plain["train/cut"] * 32)
    assert 0 < cut < 32
    assert plain["tokens"] - masked["tokens"] == 60 * cut


# -- evaluation, checkpoints, what comes after ---------------------------------------------------------------------------


def test_the_evaluation_is_the_reward_on_held_out_prompts_and_the_best_has_the_highest(tmp_path: Path) -> None:
    words = ["method=full", "optim.lr=1e-2", "trainer.max_steps=12", "trainer.eval_every=4", "data.val_fraction=0.3",
        "trainer.keep_checkpoints=9"]
    folder = tiny(tmp_path, *GRPO[:-1], "trainer.global_batch_size=4", *words)
    rewards = column(folder, "val/reward")
    assert len(rewards) == 3
    assert column(folder, "val/loss") == [-r for r in rewards]
    best = 4 * (rewards.index(max(rewards)) + 1)
    assert (folder / "checkpoints" / "best").resolve().name == f"step-{best}"
    still = tiny(tmp_path / "still", *GRPO, "optim.lr=1e-12", "trainer.max_steps=4", "trainer.eval_every=2", "data.val_fraction=0.3")
    first, second = column(still, "val/reward")
    assert first == second


def state(run: Path) -> dict[str, Any]:
    last = run / "checkpoints" / "last"
    return {"last": last.resolve().name, "rows": rows(run)} | {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(last.iterdir())
    }


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize(
    "stage",
    [
        [*GRPO, "stage.minibatches=2", "stage.epochs_per_rollout=2", "stage.kl_coefficient=0.01"],
        [*PPO, "trainer.global_batch_size=8", "stage.kl_control=adaptive", "stage.kl_target=0.01",
            "stage.kl_horizon=100"],
    ],
    ids=["grpo", "ppo"],
)
def test_resumed_is_uninterrupted_bit_for_bit_also_inside_a_rollout(tmp_path: Path, stage: list[str], method: str) -> None:
    words = [*stage, f"method={method}", "optim.lr=1e-3", "trainer.max_steps=10", "trainer.save_every=1",
        "trainer.keep_checkpoints=99"]
    words += ["data.val_fraction=0.3", "trainer.eval_every=5", "trainer.micro_batch_size=5", "data.max_samples=50"]
    whole = tiny(tmp_path / "run", *words)
    expected = state(whole)
    assert len(expected["rows"]) == 12
    if stage[0] == "stage=ppo":
        assert len(set(column(whole, "train/kl_coefficient"))) > 1
    for killed in (4, 6):  # a rollout has four steps: 4 lies between two, 6 inside one
        again = tmp_path / "again"
        shutil.rmtree(again, ignore_errors=True)
        shutil.copytree(whole, again, symlinks=True)
        for step in range(killed + 1, 11):
            shutil.rmtree(again / "checkpoints" / f"step-{step}")
        for link in ("last", "best"):
            (again / "checkpoints" / link).unlink()
        assert state(tiny(again, *words)) == expected, f"killed after step {killed}"


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")  # peft asks by the old name
def test_a_ppo_run_is_exported_and_loaded_without_its_value_head(tmp_path: Path, method: str) -> None:
    run = tiny(tmp_path / "run", *PPO, f"method={method}", "optim.lr=1e-3", "trainer.max_steps=2", "stage.prompts=['Why?']")
    assert {"value_head.weight", "value_head.bias"} <= weights(run).keys()
    assert export_main([f"run={run}", f"out={tmp_path / 'out'}"]) == 0
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        ours = load_run(run, exact=True).model(input_ids=ids, use_cache=False).logits
        plain = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)(input_ids=ids, use_cache=False).logits
    torch.testing.assert_close(plain, ours, rtol=1e-4, atol=1e-5)
    answered = [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]
    assert [(row["step"], row["prompt"]) for row in answered] == [(0, "Why?"), (2, "Why?")]


# -- what stops a run ----------------------------------------------------------------------------------------------------


def test_a_divergence_that_runs_away_stops_with_a_diagnosis(tmp_path: Path) -> None:
    words = [*PPO, "method=full", "optim.lr=2e-2", "trainer.max_steps=80", "stage.kl_coefficient=0"]
    with pytest.raises(TrainingFailed, match=r"the divergence from the start is .* nats, more than 10: the policy has run away.*optim\.lr"):
        tiny(tmp_path, *words)
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "failed"


def test_a_divergence_below_zero_by_more_than_chance_stops_after_five_rollouts() -> None:
    stage = PolicyStage.__new__(PolicyStage)
    torch.nn.Module.__init__(stage)
    stage._negative, stage.objective = 0, type("O", (), {"kl_limit": 10.0})()

    def rollout(kl: float, error: float) -> None:
        stage._refuse_runaway(type("B", (), {"record": {"train/kl": kl, "kl_error": error}, "number": 6})())  # type: ignore[arg-type]

    for _ in range(20):
        rollout(-0.1, 0.06)  # within two standard errors
    for _ in range(4):
        rollout(-0.1, 0.01)
    rollout(0.1, 0.01)
    for _ in range(4):
        rollout(-0.1, 0.01)
    with pytest.raises(TrainingFailed, match=r"Rollout 7: .* below zero five rollouts in a row"):
        rollout(-0.1, 0.01)


def test_sampling_from_another_policy_stops_before_anything_is_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fulgurite.stage import policy

    plain = policy.TransformersRollouts

    def hotter(*args: Any, temperature: float, **more: Any) -> Any:
        return plain(*args, temperature=0.5 * temperature, **more)

    monkeypatch.setattr(policy, "TransformersRollouts", hotter)
    with pytest.raises(TrainingFailed, match="Rollout 1: a token's log-probability in sampling and in training differ by"):
        tiny(tmp_path, *GRPO)


def test_a_reference_that_is_not_the_start_stops_at_step_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fulgurite.stage.reference import AdapterOff

    right = AdapterOff.__call__
    monkeypatch.setattr(AdapterOff, "__call__", lambda self, batch: right(self, batch) + 0.01)
    with pytest.raises(TrainingFailed, match=r"Step 1: the divergence from the reference is off by 0\.01 before anything was learned"):
        tiny(tmp_path, *PPO)


def test_a_reward_that_fails_in_the_middle_is_one_sentence_and_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    code = tmp_path / "mine.py"
    body = "calls.append(1)\n    return [float('nan') if len(calls) > 2 else 1.0] * len(answers)"
    code.write_text(f"calls = []\ndef f(answers, **rest):\n    {body}\n")
    with pytest.raises(RequestError, match=r"mine\.py:f gave nan for the answer .* to .*train\.jsonl:\d+; it must give a finite number"):
        tiny(tmp_path / "run", *GRPO, f"stage.reward=['{code}:f']", "trainer.max_steps=5", "trainer.save_every=1")
    assert (tmp_path / "run" / "checkpoints" / "last").resolve().name == "step-2"


def test_an_answer_that_the_model_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"stage\.max_new_tokens=1000 behind a prompt of \d+ tokens is more than the 1024"):
        tiny(tmp_path, *GRPO, "stage.max_new_tokens=1000", "data.max_length=64")


# -- the order of rollouts -----------------------------------------------------------------------------------------------


def test_each_epoch_answers_every_prompt_and_fills_up_its_last_rollout() -> None:
    cuts = Cuts(8, 2, 3, 4, 42)
    order = RolloutOrder(10, 4, cuts, 42, True)
    assert (order.steps_per_epoch, order.micro_batches_per_step, cuts.steps) == (18, 1, 6)
    assert isinstance(order, StepSampler)
    for epoch in (0, 1):
        rollouts = [order.list_micro_batches(epoch * 18 + r * 6)[0] for r in range(3)]
        assert all(order.list_micro_batches(epoch * 18 + r * 6 + s)[0] == rollouts[r] for r in range(3) for s in range(6))
        flat = [n for rollout in rollouts for n in rollout]
        assert sorted(flat[:10]) == list(range(10))
        assert flat[10:] == flat[:2]
    assert order.list_micro_batches(0) != order.list_micro_batches(18)


def test_fewer_prompts_than_a_rollout_wants_are_answered_again(tmp_path: Path) -> None:
    data = tmp_path / "p.jsonl"
    data.write_text('{"prompt": "One?"}\n{"prompt": "Two?"}\n{"prompt": "Three?"}\n')
    folder = tiny(tmp_path / "run", *GRPO, "data=file", f"data.path={data}", "trainer.max_steps=2")
    assert len(column(folder, "train/reward")) == 2


def test_knobs_are_derived_for_rollouts() -> None:
    grpo, ppo = (compose([f"stage={s}", "stage.reward=['count:e']"]) for s in ("grpo", "ppo"))
    assert (grpo.run.optim.lr, ppo.run.optim.lr, grpo.run.trainer.epochs) == (1e-5, 1e-5, 1.0)
    assert (grpo.run.stage.clip_high, ppo.run.stage.clip_high) == (0.28, 0.2)
    assert compose(["stage=grpo", "method=full"]).run.optim.lr == 1e-6
    assert compose(["stage=ppo", "method=full"]).run.optim.lr == 3e-6
    assert "TRL's PEFT table 1e-5" in grpo.provenance["optim.lr"].reason


# -- a trained reward model ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reward_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of stage=rm that has learned to like the letter e."""
    folder = tmp_path_factory.mktemp("rm")
    (folder / "pairs.jsonl").write_text("".join(
        json.dumps({"prompt": f"Number {n}?", "chosen": "e" * (3 + n % 5) + " the", "rejected": "o" * (3 + n % 5) + " not"}) + "\n"
        for n in range(48)
    ))
    words = ["stage=rm", "data=file", f"data.path={folder / 'pairs.jsonl'}", "method=full", "optim.lr=3e-3", "trainer.max_steps=20"]
    return tiny(folder / "run", *words, "trainer.global_batch_size=8", "scheduler=constant")


def test_a_reward_model_judges_as_it_did_in_training_and_ppo_learns_from_it(tmp_path: Path, reward_model: Path) -> None:
    assert column(reward_model, "train/accuracy")[-1] == 1
    loaded = load_run(reward_model)
    turns = [[{"role": "user", "content": "Number 3?"}]] * 3
    answers, ends = ["eeee the", "oooo not", "e"], [True, True, False]
    found = load_reward_model(reward_model)(Answered(["Number 3?"] * 3, answers, [1] * 3, ends, ["p:1"] * 3, {"messages": turns}))
    for answer, ended, number in zip(answers, ends, found, strict=True):  # each alone; one that was cut is given no end
        said = loaded.tokenizer(answer + "<|im_end|>" * ended)["input_ids"]
        ids = loaded.template.encode_prompt([Message("user", "Number 3?")]) + said
        with torch.no_grad():
            alone = compute_rewards(loaded.model, torch.tensor([ids]), torch.tensor([len(ids)]))
        assert number == pytest.approx(float(alone[0]), abs=1e-5)
    assert found[0] > found[1] + 1
    words = ["method=full", "optim.lr=3e-3", "trainer.max_steps=72", "stage.kl_coefficient=0.05", "data.max_length=64"]
    folder = tiny(tmp_path / "run", *PPO, f"stage.reward=['{reward_model}']", *words)
    assert gain(folder) > 0.5


def test_a_run_that_is_no_reward_model_is_refused(tmp_path: Path) -> None:
    spoken = tiny(tmp_path / "sft")
    with pytest.raises(ModelError, match="is of stage=sft, which gives no rewards; train one with stage=rm"):
        tiny(tmp_path / "run", *PPO, f"stage.reward=['{spoken}']")


OTHERS = {
    "freeze": ["method.trainable=last:1"], "layerwise": ['method.rules=["last:1 full","rest lora rank=4"]'],
    "qlora": [],
    "oft": ["method.block=16"], "ia3": [], "vera": [], "llama_pro": ["method.blocks=1"], "pissa": [], "dora": [],
}
"""Every method and preset besides lora and full."""


@pytest.mark.parametrize(("method", "stage"), cells(OTHERS, ["ppo", "grpo"], grpo=GRPO, ppo=PPO))
def test_every_method_answers_learns_resumes_and_is_exported(tmp_path: Path, stage: list[str], method: str) -> None:
    words = [*stage, f"method={method}", *OTHERS[method], "optim.lr=1e-3", "stage.max_new_tokens=4",
        "trainer.global_batch_size=4"]
    words += ["trainer.save_every=1", "trainer.keep_checkpoints=9"]
    whole = tiny(tmp_path / "whole", *words, "trainer.max_steps=3")  # step 1 holds that the ratio is 1 and the divergence 0
    part = tiny(tmp_path / "part", *words, "trainer.max_steps=2")
    tiny(part, *words, "trainer.max_steps=3", "resume.allow=[trainer.max_steps]")
    assert rows(part) == rows(whole)
    assert weights(part).keys() == weights(whole).keys()
    for name, tensor in weights(whole).items():
        assert torch.equal(weights(part)[name], tensor), name
    assert export_main([f"run={whole}", f"out={tmp_path / 'out'}"]) == 0
