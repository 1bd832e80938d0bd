"""Trackio: its own database, the same run after a resume, and nothing on the screen."""

from __future__ import annotations

import importlib.util
import json
import os
import sqlite3
import tempfile
from pathlib import Path

import pytest

from fulgurite.config.compose import compose
from fulgurite.errors import ConfigError
from fulgurite.logger.guard import GuardedLogger
from fulgurite.logger.tracked_run import TrackedRun
from fulgurite.logger.trackio import build
from fulgurite.plan.preflight import refuse_impossible

os.environ.setdefault("TRACKIO_DIR", tempfile.mkdtemp(prefix="trackio-tests-"))  # it is read at the import
pytest.importorskip("trackio")


def open_tracker(folder: Path) -> GuardedLogger:
    words = ["logger=trackio", f"logger.trackio.project={folder.parent.name}", "logger.trackio.group=seeds"]
    run = TrackedRun(folder, {"name": "mine", "optim.lr": 0.1}, words=("stage=sft",))
    return build(compose(words).run.logger["trackio"], run)


@pytest.fixture
def database(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> sqlite3.Connection:
    """The project's database after a run and its resume."""
    for step, loss in ((1, 2.0), (2, 1.0)):
        tracker = open_tracker(tmp_path / "run")
        tracker.log_metrics({"train/loss": loss}, step)
        tracker.log_histograms({"gradients/w": ([2.0, 3.0], [-1.0, 0.0, 1.0])}, step)
        tracker.log_text("samples", ["prompt"], [["Why?"]], step)
        tracker.alert("norm-high", "stop", "The norm is high.", step)
        tracker.finalize("success")
        assert tracker.works
    assert capfd.readouterr() == ("", "")
    return sqlite3.connect(Path(os.environ["TRACKIO_DIR"]) / f"{tmp_path.name}.db")


def test_a_resumed_run_continues_the_same_trackio_run(database: sqlite3.Connection, tmp_path: Path) -> None:
    name = (tmp_path / "run" / "trackio" / "id").read_text()
    assert name.startswith("mine-")
    rows = database.execute("select run_name, step, metrics from metrics order by id").fetchall()
    assert {row[0] for row in rows} == {name}
    found = [(step, json.loads(metrics)) for _, step, metrics in rows]
    losses = [(step, row["train/loss"]) for step, row in found if "train/loss" in row]
    assert losses == [(1, 2.0), (2, 1.0)]
    drawn = next(row["gradients/w"] for _, row in found if "gradients/w" in row)
    assert (drawn["values"], drawn["bins"]) == ([2.0, 3.0], [-1.0, 0.0, 1.0])
    table = next(row["samples"] for _, row in found if "samples" in row)
    assert table["_value"] == [{"prompt": "Why?"}]
    alerts = database.execute("select title, text, level, step from alerts order by id").fetchall()
    assert alerts[0] == ("norm-high", "The norm is high.", "error", 1)
    config = json.loads(database.execute("select config from configs").fetchone()[0])
    assert (config["optim.lr"], config["_Group"], config["command"]) == (0.1, "seeds", "fulgurite train stage=sft")


def test_two_runs_of_one_name_are_two_runs(tmp_path: Path) -> None:
    names = set()
    for place in ("a", "b"):
        tracker = open_tracker(tmp_path / place)
        tracker.log_metrics({"train/loss": 1.0}, 1)
        tracker.finalize("success")
        names.add((tmp_path / place / "trackio" / "id").read_text())
    assert len(names) == 2


def test_a_missing_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs the package trackio, .*: pip install trackio$"):
        refuse_impossible(compose(["logger=trackio"]).run)
