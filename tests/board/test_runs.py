"""The runs under the roots: found by anybody, read once, never trusted."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from tests.board.run_folders import make_run, write_rows

from fulgurite.board import runs as module
from fulgurite.board.http_error import HttpError
from fulgurite.board.roots import Roots, make_run_id
from fulgurite.board.runs import RunCatalogue, describe_differences
from fulgurite.files.lock import hold_lock
from fulgurite.run.listing import RunSummary
from fulgurite.run.status import LOCK


def catalogue(folder: Path) -> RunCatalogue:
    return RunCatalogue(Roots([folder], folder))


def test_runs_are_listed_newest_first_whoever_started_them(tmp_path: Path) -> None:
    make_run(tmp_path / "runs" / "2026-01-01" / "a", started=100.0)
    make_run(tmp_path / "multirun" / "x" / "0", started=300.0)
    make_run(tmp_path / "b", started=200.0)
    found = catalogue(tmp_path).list_runs()
    assert [run.folder.name for run in found] == ["0", "b", "a"]
    assert [run.id for run in found] == [make_run_id(run.folder) for run in found]
    assert found[2].summary.loss == pytest.approx(1.0)


def test_run_is_found_by_id_and_nothing_else(tmp_path: Path) -> None:
    make_run(tmp_path / "a")
    found = catalogue(tmp_path)
    assert found.find_run(make_run_id(tmp_path / "a")).folder == tmp_path / "a"
    for other in ("a", "../a", str(tmp_path / "a"), "0" * 16, "", make_run_id(tmp_path)):
        with pytest.raises(HttpError) as caught:
            found.find_run(other)
        assert caught.value.status == 404


def test_a_run_that_begins_later_is_found_at_once(tmp_path: Path) -> None:
    found = catalogue(tmp_path)
    assert found.list_runs() == []
    make_run(tmp_path / "later")
    assert found.find_run(make_run_id(tmp_path / "later")).summary.state == "finished"


def test_a_link_leads_to_no_run(tmp_path: Path) -> None:
    outside = make_run(tmp_path / "outside")
    root = tmp_path / "root"
    make_run(root / "own")
    (root / "link").symlink_to(outside)
    (root / "half").mkdir()
    (root / "half" / "status.json").symlink_to(outside / "status.json")
    found = catalogue(root)
    assert [run.folder.name for run in found.list_runs()] == ["own"]
    with pytest.raises(HttpError):
        found.find_run(make_run_id(root / "half"))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"7", b"[" * 100_000, b'{"state": ["running"]}'])
def test_damaged_files_are_listed_with_their_troubles(tmp_path: Path, content: bytes) -> None:
    for name in ("status.json", "provenance.json", "metrics.jsonl"):
        folder = make_run(tmp_path / name.partition(".")[0])
        (folder / name).write_bytes(content)
    found = catalogue(tmp_path).list_runs()
    assert len(found) == 3
    assert {run.summary.state for run in found} == {"finished", "unknown"}


def test_a_run_that_trains_is_read_where_it_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run(tmp_path / "a", state="running", total_steps=9)
    found, read, read_json = catalogue(tmp_path), [], module.read_json

    def note(path: Path) -> Any:
        read.append(path.name)
        return read_json(path)

    monkeypatch.setattr(module, "read_json", note)
    with hold_lock(folder / LOCK):
        run = found.find_run(make_run_id(folder))
        assert sorted(read) == ["provenance.json", "status.json"]
        write_rows(folder, [{"step": 4, "train/loss": 0.5}])
        run = found.find_run(run.id)
        assert (run.summary.state, run.summary.steps, run.summary.loss, len(read)) == ("running", 4, 0.5, 2)
        status = json.loads((folder / "status.json").read_text())
        (folder / "status.json").write_text(json.dumps(status | {"total_steps": 70}))
        assert found.find_run(run.id).summary.total_steps == 70
        assert read[2:] == ["status.json"]
    assert found.find_run(run.id).summary.state == "died"


def test_unchanged_runs_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(3):
        make_run(tmp_path / f"r{n}")
    found, read, summarize = catalogue(tmp_path), [], module.summarize_run

    def note(folder: Path, *more: Any) -> RunSummary:
        read.append(folder.name)
        return summarize(folder, *more)

    monkeypatch.setattr(module, "summarize_run", note)
    found.list_runs()
    write_rows(tmp_path / "r1", [{"step": 4, "train/loss": 0.5}])
    assert {run.folder.name: run.summary.steps for run in found.list_runs()} == {"r0": 3, "r1": 4, "r2": 3}
    assert sorted(read) == ["r0", "r1", "r1", "r2"]


def test_a_running_run_is_live_until_its_lock_is_gone(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a", state="running", total_steps=103)
    found = catalogue(tmp_path)
    with hold_lock(folder / LOCK):
        [run] = found.list_runs()
        assert run.is_live
        assert run.forecast() is None
        run.pace.clear()
        run.pace.extend([(100.0, 1), (110.0, 2), (120.0, 3)])
        assert run.forecast() == pytest.approx(1000.0)
        assert str(run.find_obstacle()) == "This run is still running."
    [run] = found.list_runs()
    assert run.summary.state == "died"
    assert run.forecast() is None


def test_forecast_is_by_the_newest_steps(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a", state="running", total_steps=200)
    with hold_lock(folder / LOCK):
        [run] = catalogue(tmp_path).list_runs()
        run.pace.clear()
        run.pace.extend([(0.0, 1), (1000.0, 2), (1010.0, 90), (1020.0, 100)])
        assert run.forecast() == pytest.approx(100 * 20 / 98)
        run.summary.steps = 50  # resumed from an earlier step
        run.note_step(1030.0)
        assert list(run.pace) == [(1030.0, 50)]


@pytest.mark.parametrize(("state", "checkpoint", "total", "why"), [
    ("stopped", 2, 9, None), ("failed", 3, 9, None), ("failed", None, 9, "This run has no checkpoint; start it again."),
    ("finished", 3, None, "This run has come to its end, step 3; nothing is left to resume."),
    ("stopped", 9, 9, "This run has come to its end, step 9; nothing is left to resume."),
])
def test_whether_a_run_can_be_resumed(
    tmp_path: Path, state: str, checkpoint: int | None, total: int | None, why: str | None
) -> None:
    make_run(tmp_path / "a", state=state, checkpoint=checkpoint, total_steps=total)
    [run] = catalogue(tmp_path).list_runs()
    found = run.find_obstacle()
    assert (None if found is None else str(found)) == why


def test_a_checkpoint_without_its_parts_does_not_count(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a", state="stopped", checkpoint=2)
    (folder / "checkpoints" / "step-3").mkdir()
    [run] = catalogue(tmp_path).list_runs()
    assert run.checkpoint == 2


def test_a_trial_belongs_to_its_search(tmp_path: Path) -> None:
    make_run(tmp_path / "search" / "0")
    (tmp_path / "search" / "study.db").write_bytes(b"")
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "study.db").write_bytes(b"")
    found = catalogue(tmp_path)
    assert [run.sweep for run in found.list_runs()] == [make_run_id(tmp_path / "search")]
    assert sorted(folder.name for folder in found.list_sweeps()) == ["begun", "search"]


def test_differences_are_by_id(tmp_path: Path) -> None:
    for rate in (1e-4, 1e-3):
        make_run(tmp_path / f"r{rate}", knobs={"optim.lr": rate, "seed": 1}, choices={"method": "lora"})
    runs = catalogue(tmp_path).list_runs()
    assert describe_differences(runs) == {"optim.lr": {run.id: run.summary.knobs["optim.lr"] for run in runs}}


def test_five_hundred_runs_are_listed_in_no_time(tmp_path: Path) -> None:
    for n in range(500):
        make_run(tmp_path / f"{n // 20}" / f"r{n}", losses=[2.0] * 5, checkpoint=5, state="stopped")
    found = catalogue(tmp_path)
    assert len(found.list_runs()) == 500
    begin = time.process_time()
    found.list_runs()
    assert time.process_time() - begin < 0.25


def test_a_removed_run_is_no_longer_there(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a")
    found = catalogue(tmp_path)
    [run] = found.list_runs()
    for path in folder.iterdir():
        os.unlink(path)
    with pytest.raises(HttpError):
        found.find_run(run.id)
    assert json.dumps([other.id for other in found.list_runs()]) == "[]"


def test_curves_of_few_runs_stay_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ROWS", 7)
    for n in range(4):
        make_run(tmp_path / f"r{n}")
    found = catalogue(tmp_path)
    runs = found.list_runs()
    first = found.get_reader(runs[0])
    first.refresh()
    assert found.get_reader(runs[0]) is first
    for run in runs[1:]:
        found.get_reader(run).refresh()
    assert found.get_reader(runs[0]) is not first
    assert found.get_reader(runs[3]).rows == 3
