"""What is found beside a plan: an earlier checkpoint, and cheaper words where memory is short."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.end_to_end.runs import tiny

from fulgurite.config.compose import compose
from fulgurite.config.provenance import Composed
from fulgurite.config.run import RunConfig
from fulgurite.plan import alternatives
from fulgurite.plan import prepare as room
from fulgurite.plan.alternatives import find_cheaper
from fulgurite.plan.context import Memory, MemoryPart, ModelFacts
from fulgurite.plan.preflight import build_checked_source
from fulgurite.run.resume_plan import preview_resume

WORDS = ["model=tiny", "precision=fp32", "logger=none", "data.max_samples=60", "trainer.max_steps=300"]


def composed(*words: str) -> Composed:
    return compose([*WORDS, *words])


def test_cheaper_overrides_are_searched_only_if_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    run = composed("method=full", "trainer.global_batch_size=8", "trainer.micro_batch_size=4")
    dtypes = room.settle_precision(run.run.precision, run.run.trainer)
    found = room.prepare_run(run, build_checked_source(run), dtypes)
    run = found.composed
    # a stand-in for plan/memory.py: trained parameters and rows at a time, so that each word shows
    def count(run: RunConfig, model: ModelFacts, *_: object) -> Memory:
        return Memory(MemoryPart(weights=model.trained, activations=1000 * run.trainer.micro_batch_size))

    monkeypatch.setattr(alternatives, "estimate", count)
    seen = replace(found.seen, memory=count(run.run, found.seen.model))
    seen.machine = replace(seen.machine, memory_free=10 * seen.memory.peak)
    assert find_cheaper(run.overrides, dtypes, found.facts, seen) == []
    seen.machine = replace(seen.machine, memory_free=seen.memory.peak)
    ways = find_cheaper(run.overrides, dtypes, found.facts, seen)
    assert [way.override.split()[-1] for way in ways] == [
        "trainer.micro_batch_size=1", "trainer.gradient_checkpointing=true", "optim=adamw_8bit", "method=lora",
        "method=qlora",
    ]
    smallest = "trainer.micro_batch_size=1 trainer.gradient_checkpointing=true optim=adamw_8bit method=qlora"
    assert ways[-1].override == smallest
    assert ways[0].peak == seen.memory.peak - 3000
    assert ways[3].peak < ways[2].peak


def test_earlier_checkpoint_is_found_with_its_differences(tmp_path: Path) -> None:
    folder = tiny(tmp_path, "optim.lr=1e-3")
    assert preview_resume(composed(), None) is None
    assert preview_resume(composed(), tmp_path / "elsewhere") is None
    found = preview_resume(composed("optim.lr=2e-3"), folder)
    assert found is not None
    assert (found.step, found.missing) == (2, ())
    assert "optim.lr 0.001 → 0.002" in map(str, found.refused)
    allowed = preview_resume(composed("optim.lr=2e-3", "resume.allow=[optim.lr]"), folder)
    assert allowed is not None
    assert "optim.lr" not in [change.knob for change in allowed.refused]
    assert "optim.lr" in [change.knob for change in allowed.allowed]
    assert "step-2" in allowed.describe()
    (folder / "checkpoints" / "step-2" / "state.json").unlink()
    damaged = preview_resume(composed(), folder)
    assert damaged is not None
    assert damaged.missing == ("state.json",)
