"""A checkpoint folder is whole or not there; damage is found and named; a disk that refuses destroys nothing."""

import errno
import json
import os
import resource
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from fulgurite.checkpoint import folder, io
from fulgurite.errors import CheckpointError, TrainingFailed
from fulgurite.files import atomic

SPACE = r"It needs \d+ bytes; free there: \d+ bytes"


def save(checkpoints: Path, step: int, size: int = 100) -> Path:
    generator = torch.Generator().manual_seed(step)
    tree = {
        "state_dict": {"w": torch.randn(size, generator=generator)},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.randn(size, generator=generator)}}}],
        "rng": torch.randint(255, (64,), generator=generator),
        "step": step,
    }
    io.FolderCheckpointIO().save_checkpoint(tree, checkpoints / f"step-{step}")
    return checkpoints / f"step-{step}"


def whole_step(path: Path) -> int:
    return io.FolderCheckpointIO().load_checkpoint(path)["step"]


def test_a_saved_folder_is_whole_and_lists_every_file(tmp_path):
    path = save(tmp_path, 3)
    assert folder.find_faults(path) == []
    assert {p.name for p in path.iterdir()} == {*folder.PARTS, "manifest.json"}
    assert set(json.loads((path / "manifest.json").read_text())["files"]) == set(folder.PARTS)
    assert [p.name for p in tmp_path.iterdir()] == ["step-3"]


@pytest.mark.parametrize("name", folder.PARTS)
@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "gone"])
def test_each_damage_of_each_file_is_found_and_the_one_before_is_taken(tmp_path, name, damage):
    before, newest = save(tmp_path, 1), save(tmp_path, 2)
    file, content = newest / name, (newest / name).read_bytes()
    middle = len(content) // 2
    {
        "flip": lambda: file.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1:]),
        "truncate": lambda: file.write_bytes(content[:middle]),
        "empty": lambda: file.write_bytes(b""),
        "gone": file.unlink,
    }[damage]()
    found, skipped = folder.find_newest_whole(tmp_path)
    assert found == before
    assert [path for path, _ in skipped] == [newest]
    assert name in skipped[0][1]
    with pytest.raises(CheckpointError, match=f"step-2 is not a whole checkpoint: {name}"):
        io.FolderCheckpointIO().load_checkpoint(newest)


@pytest.mark.parametrize(("content", "words"), [
    (b"", "is not JSON"),
    (b"\0" * 64, "is not JSON"),
    (b"[]", "lists no files"),
    (b"{}", "lists no files"),
    (b'{"files": {"a": 1}}', "lists no files"),
    (b'{"files": {}}', "does not list weights.safetensors"),
    (b'{"files": {"../../etc/passwd": {"size": 1, "sha256": ""}}}', "not a file of this folder"),
    (b'{"files": {"/etc/passwd": {"size": 1, "sha256": ""}}}', "not a file of this folder"),
    (None, "is missing"),
])
def test_a_damaged_manifest_is_found(tmp_path, content, words):
    path = save(tmp_path, 1)
    manifest = path / "manifest.json"
    manifest.unlink() if content is None else manifest.write_bytes(content)
    assert len(folder.find_faults(path)) == 1
    assert words in str(folder.find_faults(path)[0])


def test_the_highest_number_wins_not_the_longest_name(tmp_path):
    for step in (9, 100, 20):
        save(tmp_path, step)
    assert folder.find_newest_whole(tmp_path) == (tmp_path / "step-100", [])
    assert folder.find_newest_whole(tmp_path / "nowhere") == (None, [])


def test_what_a_killed_process_left_is_never_a_checkpoint_and_is_removed(tmp_path):
    path = save(tmp_path, 1)
    path.rename(tmp_path / "step-1.tmp-123")
    (tmp_path / "last.tmp-9").symlink_to("step-1")
    assert folder.find_newest_whole(tmp_path) == (None, [])
    assert atomic.remove_drafts(tmp_path) == ["last.tmp-9", "step-1.tmp-123"]
    assert list(tmp_path.iterdir()) == []


def test_an_error_inside_leaves_nothing_behind(tmp_path):
    before = save(tmp_path, 1)

    def cut_off():
        with folder.write_checkpoint(tmp_path / "step-2", 10) as draft:
            (draft / "half").write_bytes(b"x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cut_off()
    assert list(tmp_path.iterdir()) == [before]


def test_a_damaged_checkpoint_of_the_same_step_is_replaced(tmp_path):
    path = save(tmp_path, 1)
    (path / "state.json").write_bytes(b"")
    save(tmp_path, 1)
    assert whole_step(path) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["step-1"]


def test_links_are_relative_and_outlive_a_move(tmp_path):
    save(tmp_path / "a", 1)
    save(tmp_path / "a", 2)
    atomic.replace_link(tmp_path / "a" / "last", tmp_path / "a" / "step-1")
    atomic.replace_link(tmp_path / "a" / "last", tmp_path / "a" / "step-2")
    (tmp_path / "a").rename(tmp_path / "b")
    assert os.readlink(tmp_path / "b" / "last") == "step-2"
    assert whole_step(tmp_path / "b" / "last") == 2
    assert sorted(p.name for p in (tmp_path / "b").iterdir()) == ["last", "step-1", "step-2"]


# --- a disk that refuses


def test_free_space_is_looked_at_before_anything_is_written(tmp_path, monkeypatch):
    before = save(tmp_path, 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6 - 5000, 5000))
    with pytest.raises(TrainingFailed, match="step-2 could not be written: not enough free disk space"):
        save(tmp_path, 2, size=10_000)
    assert list(tmp_path.iterdir()) == [before]


def test_a_quota_that_is_met_in_the_middle(tmp_path):
    before = save(tmp_path, 1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(TrainingFailed, match=rf"File too large\. {SPACE}") as caught:
            save(tmp_path, 2, size=100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == [before]
    assert whole_step(before) == 1
    assert whole_step(save(tmp_path, 2, size=100_000)) == 2


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT])
@pytest.mark.parametrize("call", range(6))
def test_an_error_of_the_disk_at_each_fsync(tmp_path, monkeypatch, number, call):
    before, calls, real = save(tmp_path, 1), [], os.fsync

    def fails(descriptor):
        calls.append(descriptor)
        if len(calls) == call + 1:
            raise OSError(number, os.strerror(number))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(TrainingFailed, match=os.strerror(number)):
        save(tmp_path, 2)
    monkeypatch.undo()
    assert len(calls) == call + 1
    assert list(tmp_path.iterdir()) == [before]
    assert whole_step(before) == 1


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "checkpoints").write_text("a file where the folder should be")
    with pytest.raises(TrainingFailed, match="step-1 could not be written"):
        save(tmp_path / "checkpoints", 1)


def test_a_missing_folder_is_made(tmp_path):
    assert whole_step(save(tmp_path / "a" / "b", 1)) == 1


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 3 MB, where this machine lets one be mounted."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)]
    made = subprocess.run(mount, capture_output=True, check=False)
    if made.returncode:
        pytest.skip("mount is not permitted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("looked", [True, False])
def test_a_full_disk(small_disk, monkeypatch, looked):
    before = save(small_disk, 1, size=200_000)  # 1.6 MB of 3
    assert whole_step(before) == 1
    if not looked:  # the space is gone only after it was looked at
        monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 0, 10**9))
    with pytest.raises(TrainingFailed, match=rf"step-2 could not be written: .*\. {SPACE}") as caught:
        save(small_disk, 2, size=200_000)
    monkeypatch.undo()
    assert "\n" not in str(caught.value)
    assert folder.find_faults(before) == []
    assert list(small_disk.iterdir()) == [before]
    shutil.rmtree(before)
    assert whole_step(save(small_disk, 2, size=200_000)) == 2


# --- what is never made, never read
