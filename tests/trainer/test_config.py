"""What the trainer's empty parameters become: batch and micro-batch sizes, processes and intervals, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from fulgurite.config.compose import compose
from fulgurite.config.facts import Facts
from fulgurite.config.provenance import Composed
from fulgurite.config.resolve import fill
from fulgurite.model.config import Tiny

WHOLE, PRIVATE = ["method=full"], ["privacy=dp_sgd", "privacy.noise_multiplier=1"]


def filled(rows: int, *words: str, **more: Any) -> Composed:
    known = Facts(percentile_99=100, model_length=2048, rows=rows, **{"total_steps": 50} | more)
    return fill(fill(compose(["logger=none", "data.max_length=100", *words]), known, "data"), known, "steps")


@pytest.mark.parametrize(("rows", "words", "expected"), [
    (100_000, [], 16), (100_000, WHOLE, 64),
    # two epochs of 1,000 rows are 125 steps of 16, fewer than 200, and 250 of 8
    (1000, [], 8), (1000, ["trainer.epochs=4"], 16), (1000, WHOLE, 8), (10, [], 8),
    (100_000, ["stage=pt"], 8),  # packed rows
    (100_000, ["stage=dpo"], 64), (100_000, ["stage=kto"], 32), (20, ["stage=kto"], 16),
    # a rollout in four steps: 100 prompts are 50 steps of 8, and 8 is the least
    (100, ["stage=grpo", "stage.minibatches=4"], 8), (1600, ["stage=ppo"], 8), (12_800, ["stage=ppo"], 64),
    # a quarter of the rows, at most four times the usual
    (100, PRIVATE, 25), (100_000, PRIVATE, 64), (2, PRIVATE, 1),
])
def test_batches_halve_until_the_run_has_200_steps(rows: int, words: list[str], expected: int) -> None:
    assert filled(rows, *words).run.trainer.global_batch_size == expected


@pytest.mark.parametrize(("words", "more", "expected"), [
    # 1024 tokens on a CPU, 512 if every weight is trained, 8192 on a GPU; no more than the step has
    ([], {}, 10), (["method=full", "trainer.global_batch_size=64"], {}, 5), ([], {"device": "cuda"}, 16),
    (["trainer.global_batch_size=4"], {}, 4), (["data.max_length=5000"], {}, 1),
    ([], {"processes": 3}, 6),  # a third of 16, rounded up
    (["stage=dpo"], {}, 5),  # both sides of a pair
    # 100 tokens of a prompt and 28 of an answer; eight answers to each of four prompts, in two steps of 16
    (["stage=grpo", "stage.max_new_tokens=28"], {}, 8),
    (["stage=grpo", "stage.max_new_tokens=28", "trainer.global_batch_size=4", "stage.minibatches=2"],
        {"device": "cuda"}, 16),
])
def test_micro_batches_fill_the_tokens_of_the_device(words: list[str], more: dict[str, Any], expected: int) -> None:
    assert filled(100_000, *words, **more).run.trainer.micro_batch_size == expected


@pytest.mark.parametrize(("billions", "expected"), [(0.25, 2), (7.0, 1), (0.01, 5)])
def test_a_private_full_run_has_few_gradients_at_a_time(
    billions: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row's gradient of 0.25e9 weights in 4 bytes is 1 GB, of which 2 GB hold two; 512 tokens are five rows."""
    monkeypatch.setattr(Tiny, "billions", lambda self: billions)
    found = filled(100_000, *PRIVATE, "method=full", "model=tiny")
    assert found.run.trainer.micro_batch_size == expected
    reason = found.provenance["trainer.micro_batch_size"].reason
    assert ("a gradient of its own" in reason) == (expected < 5)


@pytest.mark.parametrize(("steps", "evaluations", "checkpoints"), [(100, 20, 10), (101, 21, 11), (3, 1, 1)])
def test_intervals_are_a_fifth_and_a_tenth_of_the_steps(steps: int, evaluations: int, checkpoints: int) -> None:
    trainer = filled(1000, total_steps=steps).run.trainer
    assert (trainer.eval_every, trainer.save_every) == (evaluations, checkpoints)


@pytest.mark.parametrize(("stage", "epochs"), [("sft", 2.0), ("pt", 1.0), ("dpo", 1.0), ("rm", 1.0), ("grpo", 1.0)])
def test_epochs_are_those_of_the_stage(stage: str, epochs: float) -> None:
    assert compose([f"stage={stage}", "logger=none"]).run.trainer.epochs == epochs


def test_a_launcher_gives_the_number_of_devices_and_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    started = {"RANK": "3", "LOCAL_RANK": "1", "GROUP_RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}
    for name, value in {"TORCHELASTIC_RUN_ID": "x", **started}.items():
        monkeypatch.setenv(name, value)
    composed = compose(["logger=none"])
    assert (composed.run.trainer.devices, composed.run.trainer.num_nodes, composed.run.world_size) == (2, 2, 4)
    assert "torchrun started 2 processes" in composed.provenance["trainer.devices"].reason
