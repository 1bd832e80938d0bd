"""Files and folders that are replaced whole, and the drafts that a killed process leaves."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from fulgurite.errors import RequestError
from fulgurite.files.atomic import remove_drafts, write_file, write_folder, write_output


def test_a_new_file_is_private_and_a_shared_one_keeps_its_mode(tmp_path: Path) -> None:
    path, before = tmp_path / "status.json", os.umask(0)
    try:
        write_file(path, "one")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        path.chmod(0o640)
        write_file(path, b"two")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert path.read_text() == "two"
    assert os.listdir(tmp_path) == ["status.json"]


def test_a_file_that_cannot_be_written_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"nowhere/plan.json cannot be written: No such file or directory"):
        write_output(tmp_path / "nowhere" / "plan.json", "{}")


def fill(path: Path, content: str, keep: bool | None = None) -> None:
    with write_folder(path, keep=None if keep is None else lambda: keep) as draft:
        (draft / "a").write_text(content)


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deep" / "folder"
    fill(path, "one")
    fill(path, "two")
    assert (path / "a").read_text() == "two"
    fill(path, "three", keep=True)
    assert (path / "a").read_text() == "two"
    fill(path, "four", keep=False)
    assert (path / "a").read_text() == "four"

    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if Path(target) == path and ".tmp-old-" not in self.name:
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match="No space left"):
        fill(path, "five")
    assert (path / "a").read_text() == "four"
    assert os.listdir(path.parent) == ["folder"]


def test_drafts_are_removed_by_name_or_age(tmp_path: Path) -> None:
    for name in ("a.tmp-1", "a.tmp-old-2", "b.tmp-1", "b.tmp-x", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "part").write_text("")
    assert remove_drafts(tmp_path, older_than=60) == []
    assert remove_drafts(tmp_path, "a") == ["a.tmp-1", "a.tmp-old-2"]
    before = time.time() - 100
    os.utime(tmp_path / "b.tmp-1", (before, before))
    assert remove_drafts(tmp_path, older_than=60) == []  # a file in it is young
    os.utime(tmp_path / "b.tmp-1" / "part", (before, before))
    os.utime(tmp_path / "b.tmp-1", (before, before))
    assert remove_drafts(tmp_path, older_than=60) == ["b.tmp-1"]
    assert sorted(os.listdir(tmp_path)) == ["b.tmp-x", "c"]
    assert remove_drafts(tmp_path / "nowhere") == []
