"""status.json: what it says while a run runs and after, and whether its process is alive."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fulgurite.errors import CheckpointError, Interrupted, RequestError, TrainingFailed
from fulgurite.run.status import LOCK, _started, alive, held, mend, status, this_process, write


def read(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "status.json").read_text())
    return found


def test_running_then_finished(tmp_path: Path) -> None:
    with status(tmp_path / "run", total_steps=7):
        during = read(tmp_path / "run")
        assert (during["state"], during["pid"], during["total_steps"]) == ("running", os.getpid(), 7)
        assert alive(during)
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
def test_an_error_is_told_and_goes_on(tmp_path: Path, error: BaseException, state: str, why: str) -> None:
    with pytest.raises(type(error)), status(tmp_path):
        raise error
    assert (read(tmp_path)["state"], read(tmp_path)["why"]) == (state, why)


def test_a_disk_that_refuses_ends_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    with status(tmp_path / "file" / "run"):
        pass
    assert "cannot be written" in caplog.text


def test_a_reader_never_sees_half_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"state": "running"})

    def dies(source: str, target: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", dies)
    write(tmp_path, {"state": "finished"})
    assert read(tmp_path) == {"state": "running"}
    assert os.listdir(tmp_path) == ["status.json"]


def test_a_process_that_is_gone_is_dead() -> None:
    code = "import os; print(os.getpid())"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    host = socket.gethostname()
    assert not alive({"pid": int(child.stdout), "host": host})
    assert not alive({"host": host})
    assert not alive({"pid": "12", "host": host})


def test_a_process_id_that_was_used_again_is_dead() -> None:
    host = socket.gethostname()
    assert alive({"pid": os.getppid(), "host": host})
    assert not alive({"pid": os.getppid(), "process_started": 1.0, "host": host})


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process's start does not move with the clock")
@pytest.mark.parametrize("seconds", [-3600.0, 2.0, 100.0])
def test_a_clock_that_is_set_kills_nobody(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """A machine that slept, or NTP: the kernel then gives another time of its start, and psutil adds every process's age to it."""
    from psutil import _pslinux

    code = "import json; from fulgurite.run.status import this_process; print(json.dumps(this_process()), flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        said, real = json.loads(other.stdout.readline()), _pslinux.boot_time
        assert alive(said)
        monkeypatch.setattr(_pslinux, "boot_time", lambda: real() + seconds)
        assert alive(said)
        assert not alive(said | {"process_started": said["process_started"] + 1})
        other.communicate("\n")
    assert not alive(said)
    assert alive(this_process())


def test_a_run_of_another_machine_is_believed() -> None:
    assert alive({"pid": 2**22 + 1, "host": "another machine"})


def test_a_refused_resume_leaves_the_run_as_it_was(tmp_path: Path) -> None:
    with status(tmp_path):
        pass
    before = (tmp_path / "status.json").read_text()
    with pytest.raises(CheckpointError), status(tmp_path):
        raise CheckpointError("this run is finished")
    assert (tmp_path / "status.json").read_text() == before


def test_a_folder_in_which_another_process_trains_is_refused(tmp_path: Path) -> None:
    """Both would write the same rows and checkpoints; what the other says of itself is left as it was."""
    import psutil

    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        mine = {"state": "running", "pid": other.pid, "process_started": _started(psutil.Process(other.pid)),
                "host": socket.gethostname()}
        write(tmp_path, mine)
        with pytest.raises(RequestError, match=f"is being trained by process {other.pid}"), status(tmp_path):
            pass
        assert read(tmp_path) == mine
    finally:
        other.communicate(b"\n")
    with status(tmp_path):  # it is gone: the run goes on
        assert read(tmp_path)["pid"] == os.getpid()


def test_a_checkpoint_that_was_wrong_from_the_start_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError), status(tmp_path):
        raise CheckpointError("no checkpoint to go on from")
    assert read(tmp_path)["state"] == "failed"


def test_a_folder_is_locked_while_a_run_writes_in_it(tmp_path: Path) -> None:
    """Two that begin at once: whatever either has read before, one of them trains."""
    with held(tmp_path):
        assert (tmp_path / LOCK).is_file()
        with pytest.raises(RequestError, match="is being trained by another process; wait for it"), status(tmp_path):
            pass
        assert not (tmp_path / "status.json").exists()
    assert not (tmp_path / LOCK).exists()


def test_another_process_that_holds_the_lock_is_named(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from fulgurite.run.status import status\n"
        "with status(Path(sys.argv[1])): print('in', flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "in\n"
        with pytest.raises(RequestError, match=f"is being trained by process {other.pid}"), status(tmp_path):
            pass
        other.kill()
        other.wait()
        with status(tmp_path):  # its lock went with it
            pass


def test_a_folder_that_cannot_be_locked_is_used_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuses(self: Any, timeout: float) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("filelock.FileLock.acquire", refuses)
    with status(tmp_path):
        assert read(tmp_path)["state"] == "running"
    assert "cannot be locked" in caplog.text


def test_the_status_of_a_process_that_was_killed_is_mended(tmp_path: Path) -> None:
    gone = {"state": "running", "host": socket.gethostname(), "pid": 2**22 + 1, "started": 5.0}
    write(tmp_path, gone)
    mend(tmp_path, "failed", "Rank 0 was killed.")
    found = read(tmp_path)
    assert (found["state"], found["why"], found["started"]) == ("failed", "Rank 0 was killed.", 5.0)
    mend(tmp_path, "stopped", "too late")
    assert read(tmp_path) == found
    mend(tmp_path, "failed", "Rank 1 was killed.", known_better=True)
    assert read(tmp_path) == {**found, "why": "Rank 1 was killed."}


def test_the_status_of_a_run_that_goes_on_is_not_mended(tmp_path: Path) -> None:
    with status(tmp_path):
        mend(tmp_path, "failed", "no")
        assert read(tmp_path)["state"] == "running"
    mend(tmp_path / "nowhere", "failed", "no")
    assert not (tmp_path / "nowhere").exists()
