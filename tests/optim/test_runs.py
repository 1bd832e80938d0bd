"""Whole runs with each optimizer: stopped and resumed they end the same, and freeze schedules are asked each step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.end_to_end.runs import RATES, SMALL, rows
from tests.optim.whole_runs import Gradients, read_last, train

CASES = [(o, m) for o in RATES for m in ("full", "lora") if m == "full" or o in ("schedule_free", "adamw_8bit")]


@pytest.mark.parametrize(("optim", "method"), CASES)
def test_stopped_and_resumed_it_ends_bit_for_bit(tmp_path: Path, optim: str, method: str) -> None:
    words = [f"optim={optim}", f"method={method}", f"optim.lr={RATES[optim]}", *SMALL.get(optim, [])]
    words += ["trainer.max_steps=6"]
    words += ["optim.switch_every=2"] if optim == "badam" else []
    # step 3 is one after which an evaluation is due: the run is stopped before it, and begins with it
    whole, parts = train(tmp_path / "whole", *words), tmp_path / "parts"
    for stop in (3, 4):
        train(parts, *words, stop=stop)
    train(parts, *words)
    assert rows(parts) == rows(whole)
    assert (parts / "samples.jsonl").read_text() == (whole / "samples.jsonl").read_text()
    a, b = read_last(whole), read_last(parts)
    assert a["state"] == b["state"]
    for file in ("weights.safetensors", "optimizer.safetensors"):
        assert a[file].keys() == b[file].keys()
        assert a[file]
        assert all(torch.equal(a[file][name], b[file][name]) for name in a[file])


def test_freeze_schedules_are_asked_each_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fulgurite.stage import base

    look, asked = Gradients(), []
    before = base.StageModule.__init__

    def resting(self: Any, *given: Any) -> None:
        before(self, *given)

        def embeddings_in_the_first_step(step: int) -> list[Any]:
            asked.append(step)
            return [p for n, p in self.named_parameters() if step < 1 and "embed" in n]

        self.freeze_schedules.append(embeddings_in_the_first_step)

    monkeypatch.setattr(base.StageModule, "__init__", resting)
    train(
        tmp_path,
        "optim=sgd",
        "method=full",
        "optim.lr=1e-2",
        "trainer.max_steps=2",
        "trainer.micro_batch_size=4",
        look=look,
    )
    assert asked == [0, 1]
    assert look.seen[1] - look.seen[0] == {"model.model.embed_tokens.weight"}
