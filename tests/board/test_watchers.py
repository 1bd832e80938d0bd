"""What a page that follows a run is sent: each row once, whatever happens to the page, the server or the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.board.run_folders import make_run, write_rows

from fulgurite.board import watchers
from fulgurite.board.http_error import HttpError
from fulgurite.board.roots import Roots, make_run_id
from fulgurite.board.runs import RunCatalogue
from fulgurite.board.watchers import ListWatcher, RunWatcher
from fulgurite.files.lock import hold_lock
from fulgurite.logger.metrics_file import MetricsFile
from fulgurite.run.status import LOCK


def follow(folder: Path, after: str = "") -> RunWatcher:
    return RunWatcher(RunCatalogue(Roots([folder.parent], folder.parent)), make_run_id(folder), after)


def names(events: list[Any]) -> list[str]:
    return [event[0] for event in events]


def rows(events: list[Any]) -> list[int]:
    return [row["step"] for event in events if event[0] == "rows" for row in event[1]["rows"]]


def test_a_new_page_gets_the_status_and_the_whole_curves(tmp_path: Path) -> None:
    status, reset = follow(make_run(tmp_path / "a")).poll()
    assert (status[0], status[1]["steps"]) == ("status", 3)
    assert reset[0] == "reset"
    assert reset[1]["series"]["train/loss"] == [[1, 3.0], [2, 2.0], [3, 1.0]]
    assert reset[2] == reset[1]["after"]


def test_nothing_new_is_no_event_and_reads_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watcher = follow(make_run(tmp_path / "a"))
    watcher.poll()

    def refuse(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(RunCatalogue, "find_run", refuse)
    assert watcher.poll() == []


def test_a_page_that_is_loaded_again_gets_each_row_once(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a")
    watcher = follow(folder)
    mark = watcher.poll()[-1][2]
    write_rows(folder, [{"step": 4, "train/loss": 1.0}])
    assert rows(watcher.poll()) == [4]
    write_rows(folder, [{"step": 5, "train/loss": 1.0}])
    other = follow(folder, mark)  # of another server even
    events = other.poll()
    assert names(events) == ["status", "rows"]
    assert rows(events) == [4, 5]
    assert other.poll() == []
    assert rows(watcher.poll()) == [5]


def test_a_resumed_run_resets_the_curves(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a")
    watcher = follow(folder)
    mark = watcher.poll()[-1][2]
    MetricsFile(folder / "metrics.jsonl").rewind(2)
    write_rows(folder, [{"step": 3, "train/loss": 9.0}, {"step": 4, "train/loss": 8.0}])
    for page in (watcher, follow(folder, mark)):
        [reset] = [event for event in page.poll() if event[0] in ("reset", "rows")]
        assert reset[0] == "reset"
        assert reset[1]["series"]["train/loss"] == [[1, 3.0], [2, 2.0], [3, 9.0], [4, 8.0]]


def test_many_rows_are_followed_by_the_curves_with_few_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchers, "MOST_SENT", 3)
    folder = make_run(tmp_path / "a")
    watcher = follow(folder)
    watcher.poll()
    kinds = []
    for step in range(4, 13):
        write_rows(folder, [{"step": step, "train/loss": 1.0}])
        kinds += [name for name in names(watcher.poll()) if name != "status"]
    assert kinds == ["rows", "rows", "rows", "rows", "reset", "rows", "rows", "rows", "rows"]


def test_findings_and_samples_come_when_they_are_written(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a")
    watcher = follow(folder)
    watcher.poll()
    finding = {"step": 2, "rule": "norm-high", "severity": "warning", "sentence": "High.", "remedy": "Lower."}
    write_rows(folder, [finding], "watch.jsonl")
    write_rows(folder, [{"step": 0, "prompt": "p", "answer": "a"}], "samples.jsonl")
    events = {event[0]: event[1] for event in watcher.poll()}
    assert [found["rule"] for found in events["findings"]["findings"]] == ["norm-high"]
    assert events["samples"]["samples"][0]["prompt"] == "p"


def test_a_killed_run_is_noticed_although_no_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run(tmp_path / "a", state="running")
    with hold_lock(folder / LOCK):
        watcher = follow(folder)
        assert watcher.poll()[0][1]["state"] == "running"
    monkeypatch.setattr(watchers, "LOCK_EVERY", 0.0)
    [status] = watcher.poll()
    assert (status[0], status[1]["state"]) == ("status", "died")


def test_a_run_that_is_gone_is_404(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a")
    watcher = follow(folder)
    watcher.poll()
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(HttpError):
        watcher.poll()


def test_a_run_without_metrics_yet_begins_empty(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a", losses=[])
    (folder / "metrics.jsonl").unlink()
    watcher = follow(folder)
    assert [event[1]["rows"] for event in watcher.poll() if event[0] == "reset"] == [0]
    write_rows(folder, [{"step": 1, "train/loss": 2.0}])
    assert rows(watcher.poll()) == [1]


def test_list_changes_with_a_run_a_state_or_a_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fulgurite.board.runs.SCAN_EVERY", 0.0)
    folder = make_run(tmp_path / "a", state="failed")
    watcher = ListWatcher(RunCatalogue(Roots([tmp_path], tmp_path)))
    assert [watcher.poll(), watcher.poll()] == [[], []]
    make_run(tmp_path / "b")
    assert watcher.poll() == [("runs", {"runs": 2, "progress": False})]
    status = json.loads((folder / "status.json").read_text())
    (folder / "status.json").write_text(json.dumps(status | {"state": "finished"}))
    assert names(watcher.poll()) == ["runs"]
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "study.db").write_bytes(b"")
    assert names(watcher.poll()) == ["runs"]
    assert watcher.poll() == []


def test_list_changes_when_a_command_has_ended(tmp_path: Path) -> None:
    alive = ["one"]
    watcher = ListWatcher(RunCatalogue(Roots([tmp_path], tmp_path)), lambda: alive)
    assert [watcher.poll(), watcher.poll()] == [[], []]
    alive.clear()
    assert names(watcher.poll()) == ["runs"]


def test_progress_is_told_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run(tmp_path / "a")
    watcher = ListWatcher(RunCatalogue(Roots([tmp_path], tmp_path)))
    watcher.poll()
    write_rows(folder, [{"step": 4, "train/loss": 1.0}])
    assert watcher.poll() == []
    monkeypatch.setattr(ListWatcher, "PROGRESS_EVERY", 0.0)
    assert watcher.poll() == [("runs", {"runs": 1, "progress": True})]
