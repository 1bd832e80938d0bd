"""Lock files: held against other processes, found out by readers, and gone with their process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fulgurite.files import lock
from fulgurite.files.lock import hold_lock, hold_process_lock, is_locked, remove_process_locks

HOLD = """
import sys
from filelock import FileLock

lock = FileLock(sys.argv[1])
lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""


def test_a_lock_is_held_inside_the_block_and_its_file_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    assert not is_locked(path)
    with hold_lock(path) as fault:
        assert (str(fault), is_locked(path)) == ("", True)
    assert not path.exists()
    path.write_text("")
    assert not is_locked(path)  # a file that nobody holds


def test_a_lock_is_released_if_the_block_raises(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), hold_lock(tmp_path / "a.lock"):
        raise RuntimeError
    assert not is_locked(tmp_path / "a.lock")
    with hold_lock(tmp_path / "a.lock", timeout=0) as fault:
        assert not fault


def test_a_lock_of_another_process_is_waited_for_until_it_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], **pipes) as other:  # type: ignore[call-overload]
        assert other.stdout.readline() == b"held\n"
        assert is_locked(path)
        with pytest.raises(TimeoutError), hold_lock(path, timeout=0):
            pass
        other.kill()
        other.wait()
        assert not is_locked(path)
        with hold_lock(path, timeout=0) as fault:
            assert not fault


def test_a_folder_that_takes_no_locks_is_a_reason_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with hold_lock(tmp_path / "file" / "a.lock", timeout=0) as fault:
        assert fault
    assert not is_locked(tmp_path / "file" / "a.lock")
    assert hold_process_lock(tmp_path / "file") is None


def test_a_process_has_one_lock_in_a_folder_and_those_of_killed_ones_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_own", {})
    own = hold_process_lock(tmp_path)
    assert own is not None
    assert own == hold_process_lock(tmp_path)
    assert own.name.startswith(f".process-{os.getpid()}-")
    left = tmp_path / ".process-1-abc.lock"
    left.write_text("")
    remove_process_locks(tmp_path)
    assert (own.exists(), left.exists(), is_locked(own)) == (True, False, True)
