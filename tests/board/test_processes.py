"""Processes by id and birth: another one with the same id is never meant."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fulgurite.board.processes import is_same, read_birth, signal_group, signal_run
from fulgurite.errors import RequestError
from fulgurite.files.lock import hold_lock
from fulgurite.run.status import LOCK


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-I", "-S", "-c", "import time; print(1, flush=True); time.sleep(60)"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_a_process_is_known_by_its_birth(child: subprocess.Popen[bytes]) -> None:
    birth = read_birth(child.pid)
    assert birth
    assert is_same(child.pid, birth)
    assert not is_same(child.pid, read_birth(os.getpid()))
    assert not is_same(os.getpid(), birth)
    assert not is_same(child.pid, None)


def test_an_ended_process_is_gone_before_anybody_waits_for_it(child: subprocess.Popen[bytes]) -> None:
    birth = read_birth(child.pid)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie now
    assert not is_same(child.pid, birth)
    assert not signal_group(child.pid, birth, signal.SIGINT)


def test_a_signal_reaches_the_group_of_that_process_only(child: subprocess.Popen[bytes]) -> None:
    birth = read_birth(child.pid)
    assert not signal_group(child.pid, "another birth", signal.SIGKILL)
    assert child.poll() is None
    assert signal_group(child.pid, birth, signal.SIGTERM)
    assert child.wait() == -signal.SIGTERM


def write(folder: Path, **status: Any) -> None:
    usual = {"state": "running", "host": socket.gethostname(), "started": time.time()}
    (folder / "status.json").write_text(json.dumps(usual | status))


def test_a_run_of_the_command_line_gets_the_signal_while_it_holds_its_lock(
    tmp_path: Path, child: subprocess.Popen[bytes]
) -> None:
    write(tmp_path, pid=child.pid)
    with pytest.raises(RequestError, match="ended already"):
        signal_run(tmp_path, signal.SIGINT)
    with hold_lock(tmp_path / LOCK):
        signal_run(tmp_path, signal.SIGTERM)
    assert child.wait() == -signal.SIGTERM


@pytest.mark.parametrize(("status", "sentence"), [
    ({"host": "elsewhere"}, "on elsewhere"), ({"pid": 1}, "ended already"), ({"pid": -1}, "ended already"),
    ({"pid": True}, "ended already"), ({"pid": "1"}, "ended already"), ({"started": 100.0}, "cannot be identified"),
    ({"started": None}, "cannot be identified"), ({"pid": 2**22 + 1}, "ended already"),
])
def test_a_process_that_is_not_surely_the_run_gets_no_signal(
    tmp_path: Path, child: subprocess.Popen[bytes], status: dict[str, Any], sentence: str
) -> None:
    write(tmp_path, **({"pid": child.pid} | status))
    with hold_lock(tmp_path / LOCK), pytest.raises(RequestError, match=sentence):
        signal_run(tmp_path, signal.SIGTERM)
    assert child.poll() is None


def test_a_damaged_status_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "status.json").write_text("[")
    with pytest.raises(RequestError, match=r"status\.json of this run cannot be read"):
        signal_run(tmp_path, signal.SIGTERM)
