"""`fulgurite runs`: an empty folder, a table, JSON, and wrong words; tests/run has what is listed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from fulgurite.cli import runs
from fulgurite.cli.runs import read_folders, runs_main
from fulgurite.errors import ConfigError


@dataclass
class Listed:
    name: str
    folder: Path

    def to_json(self) -> dict[str, object]:
        return vars(self)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders that are listed; each has one run."""
    folders: list[str] = []

    def list_runs(*roots: str) -> list[Listed]:
        folders.extend(roots)
        return [Listed("a", Path(folder) / "a") for folder in roots]

    monkeypatch.setattr(runs, "list_runs", list_runs)
    monkeypatch.setattr(runs, "format_runs", lambda found: "\n".join(run.name for run in found))
    return folders


def test_without_runs_the_next_command_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], asked: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert (runs_main([]), capsys.readouterr().out) == (
        0, "No runs here yet; `fulgurite train` writes them to the folder runs.\n",
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


def test_folders_are_given_as_words_or_as_dir(asked: list[str]) -> None:
    assert runs_main(["a", "dir=b", "dir=[c,'d e']"]) == 0
    assert asked == ["a", "b", "c", "d e"]
    assert read_folders(["./x=y", "dir=~/runs"]) == ["x=y", str(Path.home() / "runs")]
    with pytest.raises(ConfigError, match=r"no parameter root; give folders: `fulgurite runs dir=FOLDER`"):
        runs_main(["root=b"])
