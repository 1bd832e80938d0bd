"""What a tracker gets of a run, and where the run comes from."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.logger.test_wandb import make_commit

from fulgurite.logger.config import Trackio
from fulgurite.logger.tracked_run import RunInput, TrackedRun, find_origin, make_id, read_commit, read_id, write_id


def test_the_commit_is_that_of_the_folder_and_says_if_files_have_changed(tmp_path: Path) -> None:
    assert read_commit(tmp_path) == ""
    commit = make_commit(tmp_path)
    (tmp_path / "data.txt").write_text("untracked files, such as runs, do not count")
    assert read_commit(tmp_path) == commit
    subprocess.run(["git", "-C", str(tmp_path), "add", "data.txt"], check=True)
    assert read_commit(tmp_path) == f"{commit}-dirty"


def test_without_git_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_commit(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert read_commit(tmp_path) == ""


def test_commit_and_command_are_recorded_only_if_they_are_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    commit, words = make_commit(tmp_path), ("stage=sft", "data.path=[a b]")
    command = "fulgurite train stage=sft 'data.path=[a b]'"
    assert find_origin(Trackio(), words) == {"git_commit": commit, "command": command}
    assert find_origin(Trackio(git_commit=False), words) == {"command": command}
    assert find_origin(Trackio(command_line=False), words) == {"git_commit": commit}
    run = TrackedRun(
        tmp_path, {"optim.lr": 0.1}, {"optim.lr": {"origin": "default"}}, {"rows": 4}, words,
        (RunInput("model", "model-x", {"path": "x"}),),
    )
    assert run.describe(Trackio(git_commit=False, command_line=False)) == {
        "optim.lr": 0.1, "provenance": {"optim.lr": {"origin": "default"}}, "summary": {"rows": 4},
        "inputs": [{"kind": "model", "name": "model-x", "path": "x"}],
    }


def test_a_run_is_called_by_its_name_or_its_folder(tmp_path: Path) -> None:
    assert TrackedRun(tmp_path / "12-00-00_x", {"name": "mine"}).name == "mine"
    assert TrackedRun(tmp_path / "12-00-00_x", {"name": None}).name == "12-00-00_x"


def test_an_id_is_kept_in_the_run_folder_for_each_tracker(tmp_path: Path) -> None:
    assert read_id(tmp_path, "mlflow") == ""
    assert write_id(tmp_path, "mlflow", "abc") == "abc"
    assert (read_id(tmp_path, "mlflow"), read_id(tmp_path, "wandb")) == ("abc", "")
    assert len({make_id() for _ in range(20)}) == 20
