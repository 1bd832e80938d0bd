"""`fulgurite runs`: an empty folder, a table, JSON, and wrong words; tests/run has what is listed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from fulgurite.cli import runs
from fulgurite.cli.runs import runs_main
from fulgurite.errors import RequestError


@dataclass
class Listed:
    name: str
    folder: Path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders that are listed; each has one run."""
    folders: list[str] = []

    def list_runs(folder: str) -> list[Listed]:
        folders.append(folder)
        return [Listed("a", Path(folder) / "a")]

    monkeypatch.setattr(runs, "list_runs", list_runs)
    monkeypatch.setattr(runs, "format_runs", lambda found: "\n".join(run.name for run in found))
    return folders


def test_without_runs_the_next_command_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], asked: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert (runs_main([]), capsys.readouterr().out) == (
        0, "No runs here yet: fulgurite train makes the first, in the folder runs.\n",
    )
    assert (runs_main(["--json"]), capsys.readouterr().out) == (0, "[]\n")
    assert asked == []


def test_folder_is_runs_unless_another_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], asked: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    assert runs_main([]) == runs_main(["elsewhere"]) == 0
    assert asked == ["runs", "elsewhere"]
    assert capsys.readouterr().out == "a\na\n"


def test_json_has_paths_as_text(capsys: pytest.CaptureFixture[str], asked: list[str]) -> None:
    runs_main(["--json", "elsewhere"])
    assert json.loads(capsys.readouterr().out) == [{"name": "a", "folder": "elsewhere/a"}]


def test_two_folders_are_refused(asked: list[str]) -> None:
    with pytest.raises(RequestError, match=r"fulgurite runs takes one folder, not 2: a b\."):
        runs_main(["a", "b"])
    assert asked == []
