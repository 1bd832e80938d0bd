"""The small process between the board and a command."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fulgurite.board import keep_exit

WAITS = "import time, sys; print('in', flush=True); time.sleep(60)"
ANSWERS = "import signal, sys; signal.signal(2, lambda *a: sys.exit(130)); " + WAITS


@contextlib.contextmanager
def start(place: Path, code: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-I", "-S", keep_exit.__file__, str(place), sys.executable, "-I", "-S", "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as child:
        yield child


@pytest.mark.parametrize(("code", "status"), [("pass", 0), ("import sys; sys.exit(3)", 3)])
def test_exit_status_is_written_to_the_file(tmp_path: Path, code: str, status: int) -> None:
    with start(tmp_path / "exit", code) as child:
        assert child.wait() == status
    assert (tmp_path / "exit").read_text() == f"{status}\n"
    assert (tmp_path / "exit").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("code", "expected"), [(WAITS, "-2"), (ANSWERS, "130")])
def test_a_signal_to_the_group_is_answered_by_the_command_alone(tmp_path: Path, code: str, expected: str) -> None:
    """Also if the board itself ignores Ctrl-C, as a process that a shell has put into the background does."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.ExitStack() as stack:
        try:
            child = stack.enter_context(start(tmp_path / "exit", code))
        finally:
            signal.signal(signal.SIGINT, before)
        assert child.stdout is not None
        assert child.stdout.readline() == "in\n"
        os.killpg(child.pid, signal.SIGINT)
        child.wait()
    # python -c ends of SIGINT itself, if nobody handles it
    assert (tmp_path / "exit").read_text().strip() in (expected, "1")


BEFORE = """
import os, runpy, signal, sys
run = runpy.run_path(sys.argv[1])["run_command"]
block = signal.pthread_sigmask
def before_the_command(how, numbers):
    if how == signal.SIG_BLOCK and "handled" in sys.argv: os.kill(os.getpid(), signal.SIGINT)
    block(how, numbers)
    if how == signal.SIG_BLOCK and "pending" in sys.argv: os.kill(os.getpid(), signal.SIGINT)
signal.pthread_sigmask = before_the_command
sys.exit(run(sys.argv[2], sys.argv[4:]) & 0xFF)
"""


@pytest.mark.parametrize("when", ["handled", "pending"])
def test_a_signal_of_before_the_command_reaches_it(tmp_path: Path, when: str) -> None:
    command = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)"]
    words = [sys.executable, "-I", "-S", "-c", BEFORE, keep_exit.__file__, str(tmp_path / "exit"), when, *command]
    subprocess.run(words, timeout=30, check=False)
    # killed while it starts, or by its KeyboardInterrupt
    assert (tmp_path / "exit").read_text().strip() in ("-2", "1")


def test_a_full_disk_changes_no_exit_status(tmp_path: Path) -> None:
    with start(tmp_path / "nowhere" / "exit", "import sys; sys.exit(2)") as child:
        assert child.wait() == 2


def test_words_reach_the_command_as_they_are(tmp_path: Path) -> None:
    words = ["a b", "$(touch x)", "`id`", "; rm", "", "中文", "-x"]
    code = "import sys; print(sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-I", "-S", keep_exit.__file__, str(tmp_path / "exit"), sys.executable, "-c", code, *words],
        capture_output=True, text=True, check=True,
    )
    assert done.stdout == f"{words}\n"
