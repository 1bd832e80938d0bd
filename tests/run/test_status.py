"""status.json: its content during a run and after, and whether the run is running."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fulgurite.errors import CheckpointError, Interrupted, RequestError, TrainingFailed
from fulgurite.run.status import LOCK, correct_status, is_running, lock_run, track_status, write_status


def read(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "status.json").read_text())
    return found


def test_running_then_finished(tmp_path: Path) -> None:
    with track_status(tmp_path / "run", total_steps=7):
        during = read(tmp_path / "run")
        assert (during["state"], during["pid"], during["total_steps"]) == ("running", os.getpid(), 7)
        assert is_running(tmp_path / "run", during)
    after = read(tmp_path / "run")
    assert after["state"] == "finished"
    assert after["ended"] >= after["started"]
    assert "why" not in after
    assert os.listdir(tmp_path / "run") == ["status.json"]


@pytest.mark.parametrize(("error", "state", "why"), [
    (Interrupted("SIGTERM at step 3."), "stopped", "Interrupted: SIGTERM at step 3."),
    (KeyboardInterrupt(), "stopped", "KeyboardInterrupt"),
    (TrainingFailed("loss is\nnan"), "failed", "TrainingFailed: loss is nan"),
    (SystemExit(1), "failed", "SystemExit: 1"),
    (MemoryError(), "failed", "MemoryError"),
])
def test_an_error_is_written_and_raised_again(tmp_path: Path, error: BaseException, state: str, why: str) -> None:
    with pytest.raises(type(error)), track_status(tmp_path):
        raise error
    assert (read(tmp_path)["state"], read(tmp_path)["why"]) == (state, why)


def test_a_disk_that_refuses_ends_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    with track_status(tmp_path / "file" / "run"):
        pass
    assert "cannot be written" in caplog.text


def test_a_reader_never_sees_half_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_status(tmp_path, {"state": "running"})

    def dies(source: str, target: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", dies)
    write_status(tmp_path, {"state": "finished"})
    assert read(tmp_path) == {"state": "running"}
    assert os.listdir(tmp_path) == ["status.json"]


CHILD = """
import os, sys
from pathlib import Path
from fulgurite.run.status import track_status
with track_status(Path(sys.argv[1])):
    if "fork" in sys.argv and os.fork() == 0:  # as a worker of a DataLoader is
        os.write(1, b"forked\\n")  # it has let go of the lock
        os.close(1)
        sys.stdin.read()
        os._exit(0)
    os.write(1, b"in\\n")
    sys.stdin.read()
"""


@contextlib.contextmanager
def another_run(folder: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A process that trains in the folder until it is killed."""
    command = [sys.executable, "-c", CHILD, str(folder), *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert {other.stdout.readline() for _ in ("in", *words)} == {"in\n"} | {f"{word}ed\n" for word in words}
        yield other
        other.kill()


@pytest.mark.parametrize("words", [(), ("fork",)])
def test_a_killed_run_is_over_at_once(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Also if a worker that it forked lives on, and whoever has its process id by now."""
    with another_run(tmp_path, *words) as other:
        assert is_running(tmp_path, read(tmp_path))
        other.kill()
        other.wait()
        status = read(tmp_path)
        assert status["state"] == "running"
        assert not is_running(tmp_path, status)
        assert not is_running(tmp_path, status | {"pid": os.getppid()})
        assert (tmp_path / LOCK).exists()
        with track_status(tmp_path):
            assert read(tmp_path)["pid"] == os.getpid()


def test_readers_do_not_take_each_other_for_a_run(tmp_path: Path) -> None:
    status = {"state": "running", "host": socket.gethostname()}
    (tmp_path / LOCK).touch()
    with (tmp_path / LOCK).open() as reader:
        fcntl.flock(reader, fcntl.LOCK_SH)
        assert not is_running(tmp_path, status)
    assert not is_running(tmp_path / "nowhere", status)
    (tmp_path / "read-only").mkdir()
    assert not is_running(tmp_path / "read-only", status)
    assert list((tmp_path / "read-only").iterdir()) == []


def test_a_run_waits_for_a_reader_that_looks_at_its_lock(tmp_path: Path) -> None:
    (tmp_path / LOCK).touch()
    with (tmp_path / LOCK).open() as reader:
        fcntl.flock(reader, fcntl.LOCK_SH)
        timer = threading.Timer(0.2, fcntl.flock, (reader, fcntl.LOCK_UN))
        timer.start()
        with track_status(tmp_path):
            assert read(tmp_path)["locked"]
        timer.join()


def test_the_status_of_another_machine_or_without_a_lock_is_believed(tmp_path: Path) -> None:
    assert is_running(tmp_path, {"state": "running", "host": "another machine"})
    assert is_running(tmp_path, {"state": "running", "host": socket.gethostname(), "locked": False})
    assert not is_running(tmp_path, {"state": "finished", "host": "another machine"})


def test_a_refused_resume_leaves_the_run_as_it_was(tmp_path: Path) -> None:
    with track_status(tmp_path):
        pass
    before = (tmp_path / "status.json").read_text()
    with pytest.raises(CheckpointError), track_status(tmp_path):
        raise CheckpointError("this run is finished")
    assert (tmp_path / "status.json").read_text() == before


def test_a_folder_in_which_another_process_trains_is_refused(tmp_path: Path) -> None:
    """Both would write the same rows and checkpoints; the status of the other one stays as it was."""
    with another_run(tmp_path) as other:
        before = read(tmp_path)
        taken = f"is in use: process {other.pid} is training in it"
        with pytest.raises(RequestError, match=taken), track_status(tmp_path):
            pass
        assert read(tmp_path) == before
        other.kill()
        other.wait()
        with track_status(tmp_path):  # its lock is gone with it
            assert read(tmp_path)["pid"] == os.getpid()


def test_a_checkpoint_that_was_wrong_from_the_start_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError), track_status(tmp_path):
        raise CheckpointError("no checkpoint to go on from")
    assert read(tmp_path)["state"] == "failed"


def test_a_folder_is_locked_while_a_run_writes_in_it(tmp_path: Path) -> None:
    """Two that begin at once: whatever either has read before, one of them trains."""
    with lock_run(tmp_path):
        assert (tmp_path / LOCK).is_file()
        with pytest.raises(
            RequestError, match="is in use: another process is training in it; wait for it"
        ), track_status(tmp_path):
            pass
        assert not (tmp_path / "status.json").exists()
    assert not (tmp_path / LOCK).exists()


def test_a_folder_that_cannot_be_locked_is_used_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuses(self: Any, timeout: float) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("filelock.FileLock.acquire", refuses)
    with track_status(tmp_path):
        assert (read(tmp_path)["state"], read(tmp_path)["locked"]) == ("running", False)
        assert is_running(tmp_path, read(tmp_path))
    assert "cannot be locked" in caplog.text


def test_the_status_of_a_process_that_was_killed_is_mended(tmp_path: Path) -> None:
    gone = {"state": "running", "host": socket.gethostname(), "pid": 2**22 + 1, "started": 5.0}
    write_status(tmp_path, gone)
    correct_status(tmp_path, "failed", "Rank 0 was killed.")
    found = read(tmp_path)
    assert (found["state"], found["why"], found["started"]) == ("failed", "Rank 0 was killed.", 5.0)
    correct_status(tmp_path, "stopped", "too late")
    assert read(tmp_path) == found
    correct_status(tmp_path, "failed", "Rank 1 was killed.", replace_reason=True)
    assert read(tmp_path) == {**found, "why": "Rank 1 was killed."}


def test_the_status_of_a_run_that_goes_on_is_not_mended(tmp_path: Path) -> None:
    with track_status(tmp_path):
        correct_status(tmp_path, "failed", "no")
        assert read(tmp_path)["state"] == "running"
    correct_status(tmp_path / "nowhere", "failed", "no")
    assert not (tmp_path / "nowhere").exists()
