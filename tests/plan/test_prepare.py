"""A run as it would be: its steps, its checkpoints on the disk, its folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.plan.facts import build_facts, compose_once

from fulgurite.checkpoint.folder import SLACK
from fulgurite.config.decision import Decision, Kind
from fulgurite.config.facts import Facts
from fulgurite.config.resolve import decide, fill
from fulgurite.explain.knob_index import build_default_run
from fulgurite.plan import prepare
from fulgurite.plan.context import Memory, MemoryPart, ModelFacts, Weights
from fulgurite.plan.prepare import (
    Gathered,
    count_steps,
    decide_attention,
    estimate_disk,
    find_folder,
    preview_checkpoint,
)
from fulgurite.run.resume_plan import ResumePlan


@pytest.mark.parametrize(
    ("words", "rows", "steps"),
    [
        # 101 rows are 13 batches of 8
        (("trainer.epochs=1",), 101, 13), (("trainer.epochs=2.5",), 101, 32), (("trainer.epochs=0.01",), 101, 1),
        (("trainer.max_steps=7",), 101, 7),
        # each batch of prompts is learned from in 2 parts, 3 times
        (
            ("stage=grpo", "stage.reward=[length:5]", "stage.minibatches=2", "stage.epochs_per_rollout=3",
             "trainer.epochs=1"), 101, 78,
        ),
    ],
)
def test_steps_are_batches_times_epochs_unless_max_steps_is_given(
    words: tuple[str, ...], rows: int, steps: int
) -> None:
    composed = fill(compose_once("trainer.global_batch_size=8", *words), Facts(rows=rows), "data")
    run = composed.run
    assert count_steps(run.trainer, run.stage.count_steps_per_rollout(), rows) == steps


def test_checkpoints_on_the_disk_by_hand() -> None:
    run = build_default_run(optim="adamw")
    tensors = [Weights("a", (10, 3), True, "mlp", 120), Weights("b", (5,), False, "norm", 20)]
    trainer = replace(run.trainer, keep_checkpoints=2)
    data = replace(run.data, val_fraction=0.1)
    # trained weights, two moments of four bytes and a count of steps of four bytes
    one = 120 + 2 * 120 + 4 + SLACK
    found = estimate_disk(run.optim, trainer, data, ModelFacts(tensors=tensors))
    # two of the newest, the best, and one that is being written
    assert (found.checkpoint, found.kept, found.total) == (one, 3, 4 * one)
    without = estimate_disk(run.optim, trainer, replace(data, val_fraction=0.0), ModelFacts(tensors=tensors))
    assert (without.kept, without.total) == (2, 3 * one)


def test_folder_is_that_of_the_resumed_run_before_run_dir() -> None:
    assert find_folder("runs/a", "runs/b") == Path("runs/a")
    assert find_folder(None, "runs/b") == Path("runs/b")
    assert find_folder(None, None) is None


def test_attention_that_the_architecture_lacks_is_replaced_with_a_reason() -> None:
    composed = compose_once()
    asked = composed.run.model.attention
    assert decide_attention(asked, ModelFacts(attention=str(asked))) == []
    assert decide_attention(asked, ModelFacts()) == []
    lacking = ModelFacts(attention="eager", architecture="OldForCausalLM")
    taken = decide(composed, *decide_attention(asked, lacking))
    assert str(taken.run.model.attention) == "eager"
    decision = taken.provenance["model.attention"]
    assert decision.kind is Kind.derived
    assert "OldForCausalLM" in decision.reason


def test_values_of_the_earlier_run_are_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    composed, facts = compose_once("optim.lr=1e-4"), build_facts("optim.lr=1e-4")
    gathered = Gathered(composed, *[None] * 4, Facts(), facts, None)  # type: ignore[arg-type, call-arg]
    adopted = Decision("trainer.micro_batch_size", 3, Kind.derived, "as in the earlier run")
    plan = ResumePlan(Path("runs/a"), 5, adopted=(adopted,))
    monkeypatch.setattr(prepare, "estimate", lambda run, *rest: Memory(MemoryPart(run.trainer.micro_batch_size)))
    monkeypatch.setattr(prepare, "preview_resume", lambda composed, folder: plan)
    found = preview_checkpoint(gathered)
    assert found.composed.run.trainer.micro_batch_size == found.seen.run.trainer.micro_batch_size == 3
    assert found.seen.earlier is plan
    assert found.seen.origins["trainer.micro_batch_size"].reason == "as in the earlier run"
    assert found.seen.memory == Memory(MemoryPart(3))
    assert facts.memory is None
    monkeypatch.setattr(prepare, "preview_resume", lambda composed, folder: None)
    assert preview_checkpoint(gathered) is gathered
