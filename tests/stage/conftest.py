"""Runs of the stages that compare answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.end_to_end.runs import tiny
from tests.stage.preference_data import judged, pairs, written


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Path]:
    """`run(name, *words)`: a run on 40 pairs, or on as many judged answers in stage=kto."""
    files = {"kto": written(tmp_path / "kto.jsonl", judged(20))}
    pair = written(tmp_path / "pairs.jsonl", pairs(40))

    def make(name: str, *words: str) -> Path:
        stage = next(w.partition("=")[2] for w in words if w.startswith("stage="))
        usual = [
            "data=file", f"data.path={files.get(stage, pair)}", "data.max_samples=null", "optim.lr=1e-3",
            "scheduler=constant",
        ]
        return tiny(tmp_path / name, *usual, "trainer.global_batch_size=8", "data.val_fraction=0.25", *words)

    return make
