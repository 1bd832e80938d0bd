"""Searches: what Optuna has stored, read without it."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from tests.board.run_folders import make_run, wait_until

from fulgurite.board.roots import Roots, make_run_id
from fulgurite.board.sweeps import SweepShelf, read_sweep, sign_sweep
from fulgurite.config.sweep import Goal, Sweep
from fulgurite.sweep.spaces import Span, Values
from fulgurite.sweep.storage import mark_trial, open_storage
from fulgurite.sweep.study import ask, finish, get_trial, open_study

SPACES: dict[str, Values | Span] = {
    "optim.lr": Span(1e-5, 1e-3, True, False), "method.rank": Span(4, 64, True, True),
    "method": Values(("lora", "full", 3, None)),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "search").mkdir()
    return tmp_path / "search"


def make_study(folder: Path, values: list[float | None], goal: Goal = Goal.minimize) -> list[dict[str, Any]]:
    """A study whose trials ended with these values; None is one that failed. Returns what was drawn."""
    sweep = Sweep(study="mine", storage=f"sqlite:///{folder}/study.db", goal=goal)
    study = open_study(sweep, open_storage(str(sweep.storage)))
    drawn = []
    for value in values:
        number, found = ask(study, SPACES, folder)
        drawn.append(found)
        trial = get_trial(study, number)
        if value is not None:
            study._storage.set_trial_intermediate_value(trial._trial_id, 100, value)
        finish(study, sweep, number, "" if value is not None else "it raised", failed=value is None)
    ask(study, SPACES, folder)
    last, _ = ask(study, SPACES, folder)
    mark_trial(study, get_trial(study, last), "again", True)
    return drawn


def test_trials_are_those_of_optuna(folder: Path) -> None:
    drawn = make_study(folder, [3.0, None, 2.0])
    found = read_sweep(folder)
    assert (found.name, found.goal) == ("mine", "minimize")
    assert [(t.number, t.state, t.value) for t in found.trials] == [
        (0, "complete", 3.0), (1, "fail", None), (2, "complete", 2.0), (3, "running", None),
    ]
    assert [t.params for t in found.trials[:3]] == drawn
    best = found.find_best()
    assert best is not None
    assert best.number == 2


def test_best_follows_the_goal(folder: Path) -> None:
    make_study(folder, [3.0, 2.0], Goal.maximize)
    best = read_sweep(folder).find_best()
    assert best is not None
    assert best.number == 0


def test_reading_locks_no_writer_out_and_a_writer_no_reader(folder: Path) -> None:
    make_study(folder, [3.0])
    before = (folder / "study.db").read_bytes()
    with sqlite3.connect(folder / "study.db", timeout=0) as writer:
        writer.execute("BEGIN IMMEDIATE")
        assert len(read_sweep(folder).trials) == 2
        writer.execute("UPDATE trials SET state = state")
        writer.rollback()
    writer.close()
    assert (folder / "study.db").read_bytes() == before
    assert sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) == [
        "study.db", "study.db.lock",
    ]


@pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\x00" + b"\x00" * 90])
def test_damaged_study_falls_back_to_the_table(folder: Path, content: bytes) -> None:
    (folder / "study.db").write_bytes(content)
    assert read_sweep(folder).trials == []
    (folder / "trials.jsonl").write_text(
        '{"trial": 0, "state": "complete", "value": 1.5, "values": {"optim.lr": 0.1}, "folder": "0"}\n'
        '{"trial": "x"}\n[\n{"trial": 1, "state": "fail", "value": NaN, "values": 7}\n'
    )
    assert [(t.number, t.state, t.value, t.params) for t in read_sweep(folder).trials] == [
        (0, "complete", 1.5, {"optim.lr": 0.1}), (1, "fail", None, {}),
    ]


def test_answer_links_trials_to_their_runs(folder: Path) -> None:
    make_study(folder, [3.0])
    make_run(folder / "0", knobs={"sweep.goal": "maximize", "sweep.metric": "val/accuracy"})
    shown = SweepShelf(Roots([folder.parent], folder.parent)).describe(folder)
    assert (shown["id"], shown["folder"], shown["best"]) == (make_run_id(folder), "search", 0)
    assert (shown["goal"], shown["metric"], shown["importance"]) == ("maximize", "val/accuracy", {})
    assert [trial["run"] for trial in shown["trials"]] == [make_run_id(folder / "0"), None]


def test_a_trial_cannot_lead_out_of_its_search(folder: Path) -> None:
    make_run(folder.parent / "other")
    (folder / "trials.jsonl").write_text('{"trial": 0, "state": "complete", "value": 1, "folder": "../other"}\n')
    shown = SweepShelf(Roots([folder.parent], folder.parent)).describe(folder)
    assert shown["trials"][0]["run"] is None


def test_importance_is_computed_beside_the_server_and_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_study(folder, [3.0, 2.0, 2.5, 1.0, 4.0])
    shelf = SweepShelf(Roots([folder.parent], folder.parent))
    begin = time.process_time()
    assert shelf.describe(folder)["importance"] == {}
    assert time.process_time() - begin < 1.0
    assert shelf.list_computing() == [str(folder)]
    wait_until(lambda: not shelf.list_computing(), 60)
    assert shelf.describe(folder)["importance"] != {}
    assert set(shelf.describe(folder)["importance"]) <= set(SPACES)
    monkeypatch.setattr("fulgurite.board.sweeps.start_importance", None)
    shelf.describe(folder)
    shelf.close()


def test_signature_changes_with_the_study(folder: Path) -> None:
    before = sign_sweep(folder)
    make_study(folder, [1.0])
    assert sign_sweep(folder) != before == ((0, 0), (0, 0))
