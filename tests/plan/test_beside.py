"""What is found beside a plan: an earlier checkpoint, and cheaper words where memory is short."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.end_to_end.runs import tiny

from fulgurite.config.compose import compose
from fulgurite.config.provenance import Composed
from fulgurite.plan import prepare as room
from fulgurite.plan.alternatives import cheaper, earlier
from fulgurite.plan.context import Memory, Part
from fulgurite.plan.preflight import checked_source

WORDS = ["model=tiny", "precision=fp32", "logger=none", "data.max_samples=60", "trainer.max_steps=300"]


def composed(*words: str) -> Composed:
    return compose([*WORDS, *words])


def test_cheaper_words_are_looked_for_only_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    run = composed("method=full", "trainer.global_batch_size=8", "trainer.micro_batch_size=4")
    dtypes = room.settled(run)
    found = room.gather(run, checked_source(run), dtypes)
    # a stand-in for plan/memory.py: trained parameters and rows at a time, so that each word shows
    monkeypatch.setattr(room, "memory",
        lambda s: Memory(Part(weights=s.model.trained, activations=1000 * s.run.trainer.micro_batch_size)))
    seen = replace(found.seen, memory=room.memory(found.seen))
    seen.machine = replace(seen.machine, memory_free=10 * seen.memory.peak)
    assert cheaper(run, dtypes, found.facts, seen) == []
    seen.machine = replace(seen.machine, memory_free=seen.memory.peak)
    ways = cheaper(run, dtypes, found.facts, seen)
    assert [way.override.split()[-1] for way in ways] == [
        "trainer.micro_batch_size=1", "trainer.gradient_checkpointing=true", "optim=adamw_8bit", "method=lora",
        "method=qlora",
    ]
    assert ways[-1].override == "trainer.micro_batch_size=1 trainer.gradient_checkpointing=true optim=adamw_8bit method=qlora"
    assert ways[0].peak == seen.memory.peak - 3000
    assert ways[3].peak < ways[2].peak


def test_an_earlier_checkpoint_is_found_with_what_differs(tmp_path: Path) -> None:
    folder = tiny(tmp_path, "optim.lr=1e-3")
    assert earlier(composed(), None) is None
    assert earlier(composed(), tmp_path / "elsewhere") is None
    found = earlier(composed("optim.lr=2e-3"), folder)
    assert found is not None
    assert (found.step, found.missing) == (2, [])
    assert "optim.lr 0.001 → 0.002" in found.changes
    (folder / "checkpoints" / "step-2" / "state.json").unlink()
    assert earlier(composed(), folder).missing == ["state.json"]
    assert "optim.lr" not in " ".join(earlier(composed("optim.lr=2e-3", "resume.allow=[optim.lr]"), folder).changes)
