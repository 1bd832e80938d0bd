"""`fulgurite` as a process of its own without the seconds of its imports: a fork server has imported them once.

Signals, exit statuses, working folder and environment are those of a real process. What `python -m fulgurite` itself
does, such as which libraries it loads, is tested with real ones.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PRELOADED = "tests.preloaded"


def start_fork_server() -> Any:
    """Starts the fork server of this test process, if there is none yet; returns its multiprocessing context."""
    context = multiprocessing.get_context("forkserver")
    with pytest.MonkeyPatch.context() as patch:  # it looks for modules in PYTHONPATH only
        patch.setenv("PYTHONPATH", os.pathsep.join(map(str, (ROOT, ROOT / "src"))))
        context.set_forkserver_preload([PRELOADED])
        forkserver.ensure_running()
    return context


class ForkedCommand:
    """A running `fulgurite WORDS`, with the methods of subprocess.Popen that the tests use."""

    def __init__(
        self, words: Sequence[str], *, cwd: Path | None = None, env: dict[str, str] | None = None, typed: str = ""
    ) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._streams = [Path(self._folder.name, name) for name in ("in", "out", "err")]
        self._streams[0].write_text(typed, encoding="utf-8")
        given = (list(words), str(cwd or Path.cwd()), dict(os.environ if env is None else env))
        self._process = start_fork_server().Process(target=run_command, args=(*given, *map(str, self._streams)))
        self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status; negative after a signal that ended it."""
        return None if self._process.exitcode is None else int(self._process.exitcode)

    def poll(self) -> int | None:
        """Returns the exit status, None while it runs."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Waits until it ends; returns the exit status."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("fulgurite", timeout or 0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Sends a signal, unless it has ended."""
        with contextlib.suppress(ProcessLookupError):
            if self.poll() is None and self.pid is not None:
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Kills it, unless it has ended."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Waits until it ends; returns what it wrote on stdout and stderr."""
        self.wait(timeout)
        out, err = (path.read_text(encoding="utf-8") for path in self._streams[1:])
        self._folder.cleanup()
        return out, err


def run_command(words: list[str], cwd: str, environment: dict[str, str], *streams: str) -> None:
    """Runs in the new process, which leaves with the status of the command."""
    for number, path in enumerate(streams):
        file = os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(file, number)
        os.close(file)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["fulgurite", *words]
    runpy.run_module("fulgurite", run_name="__main__", alter_sys=True)


def train_in_two_processes(words: Sequence[str], timeout: float = 300) -> str:
    """Runs `fulgurite train WORDS` as two ranks, which find each other as a launcher's do; both must end well.

    Returns what they wrote on stderr.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    ranks = [
        ForkedCommand(["train", *words], env=dict(os.environ) | shared | {"RANK": rank, "LOCAL_RANK": rank})
        for rank in "01"
    ]
    written = [rank.communicate(timeout)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], written
    return "".join(written)
