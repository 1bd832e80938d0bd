"""What a launcher is given, and the folder of a run that never began."""

from __future__ import annotations

from pathlib import Path

import pytest

from fulgurite.launcher.request import LaunchRequest, forget_folder


def make(run_dir: str | None = None, resumed: str | None = None) -> LaunchRequest:
    return LaunchRequest(("train", "model=tiny"), 2, 3, "one", run_dir, resumed)


def test_a_run_without_a_folder_gets_a_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fresh = make()
    assert (fresh.is_fresh, fresh.world_size) == (True, 6)
    assert fresh.choose_folder().is_dir()
    for request in (make(run_dir="a"), make(resumed="a")):
        assert not request.is_fresh
        assert request.choose_folder() == Path("a")


@pytest.mark.parametrize(("folder", "word"), [
    ("/data/runs/one-2", "run_dir=/data/runs/one-2"), ("/data/my runs/a", "run_dir='/data/my runs/a'"),
    ("runs/a", "run_dir='runs/a'"), ("/data/${x}", r"run_dir='/data/\${x}'"),
])
def test_the_folder_follows_the_words(folder: str, word: str) -> None:
    assert make().add_folder(Path(folder)) == ["train", "model=tiny", word]


def test_folders_of_a_run_that_never_began_are_removed_if_they_are_empty(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "2026-01-01" / "a"
    folder.mkdir(parents=True)
    (tmp_path / "kept").write_text("")
    forget_folder(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    other = tmp_path / "runs" / "2026-01-01" / "b"
    for place in (folder, other):
        place.mkdir(parents=True)
    forget_folder(folder)
    assert [path.name for path in (tmp_path / "runs" / "2026-01-01").iterdir()] == ["b"]
