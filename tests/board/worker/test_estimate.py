"""The time of a run by earlier runs like it."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from fulgurite.board.worker.estimate import SpeedBook, estimate_time
from fulgurite.config.compose import compose
from fulgurite.config.schema import walk_settings
from fulgurite.plan.context import DataFacts, PlanFacts
from fulgurite.run.folder import write_run


def write_earlier(folder: Path, words: list[str], speed: float, host: str = "") -> None:
    folder.mkdir(parents=True)
    write_run(folder, compose(words))
    (folder / "status.json").write_text(json.dumps({"state": "finished", "host": host or socket.gethostname()}))
    rows = [{"step": n, "train/tokens_per_second": speed * (0.1 if n < 3 else 1)} for n in range(1, 8)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_speed_is_that_of_runs_of_the_same_stage_method_and_model(tmp_path: Path) -> None:
    write_earlier(tmp_path / "a", ["model=tiny", "optim.lr=1e-4"], 1000)
    write_earlier(tmp_path / "b", ["model=tiny", "method=full"], 7)
    write_earlier(tmp_path / "c", ["model=tiny"], 9, host="elsewhere")
    write_earlier(tmp_path / "2026-01-01" / "d", ["model=tiny"], 3000)
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "provenance.json").write_text("{")
    def find(*words: str) -> float | None:
        composed = compose(["model=tiny", *words])
        values = {knob.path: value for knob, value in walk_settings(composed.run)}
        return SpeedBook([tmp_path, tmp_path / "none"]).find(composed.choices, values)

    assert (find(), find("method=full"), find("method=oft")) == (2000, 7, None)


def test_time_is_tokens_by_speed(tmp_path: Path) -> None:
    run = compose(["model=tiny", "trainer.global_batch_size=4", "trainer.eval_every=5"]).run
    seen = PlanFacts(run, steps=10, data=DataFacts(rows=40, tokens=4000, val_rows=6))
    assert estimate_time(seen, None) is None
    # 10 steps of 4 examples of 100 tokens; two evaluations of 6 examples at a third of the cost
    assert estimate_time(seen, 100.0) == pytest.approx(40 + 2 * 6 / 3)
