"""What the routes of runs share."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.board.run_folders import make_run
from tests.board.server.client import make_board

from fulgurite.board.http_error import HttpError
from fulgurite.board.launches import LaunchRecord
from fulgurite.board.roots import make_run_id
from fulgurite.board.server.run_services import RunServices


@pytest.fixture
def services(tmp_path: Path) -> RunServices:
    (tmp_path / "root").mkdir()
    return RunServices(make_board(tmp_path / "root"))


def record(kind: str, folder: Path, started: float = 0.0) -> LaunchRecord:
    return LaunchRecord("0" * 16, kind, [kind], str(folder), started)


def test_a_launch_has_its_run_as_soon_as_the_folder_has_one(services: RunServices) -> None:
    folder = services.board.roots.folders[0] / "a"
    assert services.describe_launch(record("train", folder))["run"] is None
    make_run(folder)
    assert services.describe_launch(record("train", folder))["run"] == make_run_id(folder)
    assert services.describe_launch(record("export", folder / "export-merged"))["run"] == make_run_id(folder)


def test_what_is_busy_are_commands_of_the_own_folders_and_searches(
    services: RunServices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = record("train", services.board.roots.folders[0] / "a")
    monkeypatch.setattr(services.launches, "list_alive", lambda: [own, record("train", tmp_path / "elsewhere")])
    monkeypatch.setattr(services.sweeps, "list_computing", lambda: ["a search"])
    assert services.list_busy() == [own.id, "a search"]


def test_a_search_has_an_id_of_its_own(services: RunServices) -> None:
    folder = services.board.roots.folders[0] / "search"
    folder.mkdir()
    (folder / "study.db").write_bytes(b"")
    found = services.describe_launch(record("sweep", folder))
    assert (found["run"], found["sweep"]) == (None, make_run_id(folder))


def test_a_resumed_run_has_begun_when_its_status_is_new(services: RunServices) -> None:
    folder = make_run(services.board.roots.folders[0] / "a")
    now = (folder / "status.json").stat().st_mtime
    assert services._has_begun(folder, record("resume", folder, now))
    assert not services._has_begun(folder, record("resume", folder, now + 60))


def test_launches_of_other_folders_are_not_ours(services: RunServices, tmp_path: Path) -> None:
    other = record("train", tmp_path / "root-evil" / "a")
    services.launches._records[other.id] = other
    with pytest.raises(HttpError):
        services.find_launch(other.id)
    assert services.list_all()["launches"] == []


def test_services_are_made_once(services: RunServices) -> None:
    assert services.catalogue is services.catalogue
    assert services.launches is services.launches
    assert services.sweeps is services.sweeps
    assert services.chatter is services.chatter
