"""`stage=grpo` and `stage=ppo` on the tiny model: they learn, resume bit for bit, and stop with a reason."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import cells
from tests.end_to_end.runs import rows, tiny, weights
from tests.forked import train_in_two_processes
from tests.stage.policy_runs import GRPO, PPO, column, gain
from transformers import AutoModelForCausalLM

from fulgurite.data.example import Message
from fulgurite.errors import ModelError, RequestError, TrainingFailed
from fulgurite.export.model import export_main
from fulgurite.model.reward_head import compute_rewards
from fulgurite.run.load import load_run
from fulgurite.run.reward_model import load_reward_model
from fulgurite.stage.reward_functions import Answered

# -- they learn: a random model writes 2.3 letters e in twelve tokens --------------------------------------------------


FURTHER = [pytest.param(loss, marks=pytest.mark.matrix) for loss in ("grpo", "bnpo", "dr_grpo")]
"""Their formulas are held in tests/loss/test_policy.py."""


@pytest.mark.parametrize("loss", ["dapo", *FURTHER])
def test_grpo_raises_a_count_by_five(tmp_path: Path, loss: str) -> None:
    words = ["trainer.global_batch_size=4", "method=full", "optim.lr=5e-3", "trainer.max_steps=22"]
    folder = tiny(tmp_path, *GRPO, *words, f"stage.loss={loss}")
    assert gain(folder) > 5
    assert not (folder / "watch.jsonl").exists()  # the watch says nothing of a healthy run


@pytest.fixture
def wide(tmp_path: Path) -> list[str]:
    """A wider model and short prompts: an adapter moves the logits of the narrow one little, whose head stays."""
    (tmp_path / "p.jsonl").write_text("".join(json.dumps({"prompt": f"Number {n}?"}) + "\n" for n in range(40)))
    words = ["data=file", f"data.path={tmp_path / 'p.jsonl'}", "model.hidden=256", "model.layers=1", "method=lora"]
    return [*words, "stage.max_new_tokens=8"]


@pytest.mark.matrix
def test_grpo_with_lora_raises_a_count_by_one_and_a_half(tmp_path: Path, wide: list[str]) -> None:
    words = ["optim.lr=1e-2", "trainer.max_steps=30", "stage.kl_coefficient=0.001"]
    folder = tiny(tmp_path / "run", *GRPO, *wide, *words)
    assert gain(folder) > 1.5  # from 1.6 in eight tokens
    assert column(folder, "train/kl")[-1] > 0


def test_ppo_raises_a_count_by_two_and_its_value_head_knows_it(tmp_path: Path) -> None:
    words = ["method=full", "optim.lr=3e-3", "trainer.max_steps=68", "stage.kl_coefficient=0.3"]
    folder = tiny(tmp_path, *PPO, *words)
    assert gain(folder) > 2
    assert not (folder / "watch.jsonl").exists()  # the watch says nothing of a healthy run
    assert column(folder, "train/value")[0] == 0
    assert column(folder, "train/value")[-1] > 1


@pytest.mark.matrix
def test_ppo_with_lora_raises_a_count_by_one_and_a_half(tmp_path: Path, wide: list[str]) -> None:
    words = ["optim.lr=5e-3", "trainer.max_steps=46", "trainer.global_batch_size=64", "stage.minibatches=1",
        "stage.kl_coefficient=0.02"]
    folder = tiny(tmp_path / "run", *PPO, *wide, *words, "stage.gae_lambda=1", "stage.missing_eos_penalty=0")
    assert gain(folder) > 1.5  # from 1.6 in eight tokens


def test_a_format_is_learned_from_a_column_by_several_rewards(tmp_path: Path) -> None:
    data, code = tmp_path / "p.jsonl", tmp_path / "mine.py"
    data.write_text("".join(json.dumps({"prompt": f"Number {n}?", "letter": "e"}) + "\n" for n in range(20)))
    code.write_text(
        "def share(answers, letter, **rest):\n    return [a.count(x) / 10 for a, x in zip(answers, letter)]\n"
    )
    words = [
        "data=file", f"data.path={data}", f"stage.reward=['{code}:share','length:3']", "stage.reward_weights=[1.0,2.0]",
    ]
    folder = tiny(tmp_path / "run", *GRPO, *words, "method=full", "optim.lr=5e-3", "trainer.max_steps=25")
    last = rows(folder)[-1]
    assert gain(folder) > 0.15
    total = last[f"train/reward/{code.name}:share"] + 2 * last["train/reward/length:3"]
    assert last["train/reward"] == pytest.approx(total)


# -- evaluation, checkpoints, what comes after -------------------------------------------------------------------------


def state(run: Path) -> dict[str, Any]:
    last = run / "checkpoints" / "last"
    return {"last": last.resolve().name, "rows": rows(run)} | {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(last.iterdir())
    }


INSIDE = {
    "grpo": [
        *GRPO, "stage.minibatches=2", "stage.epochs_per_rollout=2", "stage.kl_coefficient=0.01",
        "trainer.global_batch_size=4", "stage.num_generations=4",
    ],
    "ppo": [
        *PPO, "trainer.global_batch_size=8", "stage.kl_control=adaptive", "stage.kl_target=0.01",
        "stage.kl_horizon=100",
    ],
}
"""Runs whose rollouts have several steps, so that a checkpoint is inside one."""


@pytest.mark.parametrize(("stage", "method"), cells(INSIDE, ["full", "lora"]))
def test_resumed_is_uninterrupted_bit_for_bit_also_inside_a_rollout(
    tmp_path: Path, stage: str, method: str
) -> None:
    words = [*INSIDE[stage], f"method={method}", "optim.lr=1e-3", "trainer.max_steps=10", "trainer.save_every=1",
        "trainer.keep_checkpoints=99"]
    words += ["data.val_fraction=0.3", "trainer.eval_every=5", "trainer.micro_batch_size=5", "data.max_samples=50"]
    whole = tiny(tmp_path / "run", *words)
    expected = state(whole)
    assert len(expected["rows"]) == 12
    if stage == "ppo":
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
    run = tiny(
        tmp_path / "run", *PPO, f"method={method}", "optim.lr=1e-3", "trainer.max_steps=2", "stage.prompts=['Why?']"
    )
    assert {"value_head.weight", "value_head.bias"} <= weights(run).keys()
    assert export_main([f"run={run}", f"out={tmp_path / 'out'}"]) == 0
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        ours = load_run(run, exact=True).model(input_ids=ids, use_cache=False).logits
        plain = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)(
            input_ids=ids, use_cache=False
        ).logits
    torch.testing.assert_close(plain, ours, rtol=1e-4, atol=1e-5)
    answered = [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]
    assert [(row["step"], row["prompt"]) for row in answered] == [(0, "Why?"), (2, "Why?")]


# -- what stops a run --------------------------------------------------------------------------------------------------


def test_a_divergence_that_runs_away_stops_with_a_diagnosis(tmp_path: Path) -> None:
    words = [*PPO, "method=full", "optim.lr=2e-2", "trainer.max_steps=80", "stage.kl_coefficient=0"]
    with pytest.raises(
        TrainingFailed,
        match=r"the divergence from the start is .* nats, more than 10: the policy is too far.*optim\.lr",
    ):
        tiny(tmp_path, *words)
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "failed"


def test_a_reward_that_fails_in_the_middle_is_one_sentence_and_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    code = tmp_path / "mine.py"
    body = "calls.append(1)\n    return [float('nan') if len(calls) > 2 else 1.0] * len(answers)"
    code.write_text(f"calls = []\ndef f(answers, **rest):\n    {body}\n")
    with pytest.raises(
        RequestError, match=r"mine\.py:f gave nan for the answer .* to .*train\.jsonl:\d+; it must give a finite number"
    ):
        tiny(tmp_path / "run", *GRPO, f"stage.reward=['{code}:f']", "trainer.max_steps=5", "trainer.save_every=1")
    assert (tmp_path / "run" / "checkpoints" / "last").resolve().name == "step-2"


# -- a trained reward model --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reward_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of stage=rm that has learned to like the letter e."""
    folder = tmp_path_factory.mktemp("rm")
    (folder / "pairs.jsonl").write_text(
        "".join(
            json.dumps(
                {"prompt": f"Number {n}?", "chosen": "e" * (3 + n % 5) + " the", "rejected": "o" * (3 + n % 5) + " not"}
            )
            + "\n"
            for n in range(48)
        )
    )
    words = [
        "stage=rm", "data=file", f"data.path={folder / 'pairs.jsonl'}", "method=full", "optim.lr=3e-3",
        "trainer.max_steps=20",
    ]
    return tiny(folder / "run", *words, "trainer.global_batch_size=8", "scheduler=constant")


def test_a_reward_model_judges_as_it_did_in_training_and_ppo_learns_from_it(tmp_path: Path, reward_model: Path) -> None:
    assert column(reward_model, "train/accuracy")[-1] == 1
    loaded = load_run(reward_model)
    turns = [[{"role": "user", "content": "Number 3?"}]] * 3
    answers, ends = ["eeee the", "oooo not", "e"], [True, True, False]
    found = load_reward_model(reward_model)(
        Answered(["Number 3?"] * 3, answers, [1] * 3, ends, ["p:1"] * 3, {"messages": turns})
    )
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
    with pytest.raises(ModelError, match="is a run of stage=sft, which gives no rewards; give a run of stage=rm"):
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
    whole = tiny(
        tmp_path / "whole", *words, "trainer.max_steps=3"
    )  # step 1 holds that the ratio is 1 and the divergence 0
    part = tiny(tmp_path / "part", *words, "trainer.max_steps=2")
    tiny(part, *words, "trainer.max_steps=3", "resume.allow=[trainer.max_steps]")
    assert rows(part) == rows(whole)
    assert weights(part).keys() == weights(whole).keys()
    for name, tensor in weights(whole).items():
        assert torch.equal(weights(part)[name], tensor), name
    assert export_main([f"run={whole}", f"out={tmp_path / 'out'}"]) == 0


# -- several processes -------------------------------------------------------------------------------------------------

SHARED = {
    "grpo": [*GRPO, "stage.kl_coefficient=0.05", "stage.num_generations=3", "trainer.global_batch_size=5"],
    "ppo": [*PPO, "trainer.global_batch_size=14", "stage.minibatches=2", "stage.epochs_per_rollout=2"],
}
"""Answers that neither two processes nor the micro-batches divide evenly."""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["grpo", "ppo"])
def test_two_processes_are_one(name: str, tmp_path: Path) -> None:
    words = [
        *SHARED[name], "method=full", "optim=sgd", "optim.lr=0.05", "precision=fp32", "trainer.max_steps=4",
        "trainer.micro_batch_size=4", "stage.rollout_batch=4", "data.val_fraction=0.1", "trainer.eval_every=2",
        "trainer.save_every=3", "data.max_samples=60",
    ]
    one, two = tiny(tmp_path / "one", *words), tmp_path / "two"
    train_in_two_processes([
        "model=tiny", "stage.prompts=[]", *words, f"run_dir={two}", "trainer.devices=2",
        "plan.allow=[steps.too-few,rate.out-of-band]",
    ])
    for mine, theirs in zip(rows(two), rows(one), strict=True):
        timed = {key for key in theirs if "per_second" in key}
        assert {k: v for k, v in mine.items() if k not in timed} == pytest.approx(
            {k: v for k, v in theirs.items() if k not in timed}, rel=1e-5, abs=1e-6
        )
    assert len([row for row in rows(one) if "val/reward" in row]) == 2
    for key, tensor in weights(one).items():
        torch.testing.assert_close(weights(two)[key], tensor, rtol=1e-6, atol=1e-6)
