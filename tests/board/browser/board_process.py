"""The real server as a process of its own, in a folder and with a cache of its own."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ADDRESS = re.compile(r"https?://\S+\?token=\S+")
START_SECONDS = 40.0
FAKE_MEMORY = Path(__file__).with_name("fake_memory")


@dataclass
class BoardProcess:
    """`fulgurite board` for one folder. Ended by `stop`, or by `kill` as a crash would."""

    folder: Path
    cache: Path
    words: tuple[str, ...] = ()
    port: int = field(default_factory=lambda: find_free_port())
    address: str = ""
    """The newest printed address, with its token, which one browser may use once."""
    free_memory: int = 0
    """Bytes of free memory that plans find on this machine; 0 for those that are free."""
    cookies: Any = None
    """What a browser keeps after it has opened the address."""
    process: subprocess.Popen[str] | None = None

    @property
    def origin(self) -> str:
        """The address without a path."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def runs(self) -> Path:
        """The folder of runs that the board shows."""
        return self.folder / "runs"

    @property
    def environment(self) -> dict[str, str]:
        """That of the server and of commands beside it."""
        found = {**os.environ, "FULGURITE_CACHE": str(self.cache), "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
        if self.free_memory:
            found["FULGURITE_TEST_FREE_MEMORY"] = str(self.free_memory)
            found["PYTHONPATH"] = os.pathsep.join(filter(None, [str(FAKE_MEMORY), os.environ.get("PYTHONPATH", "")]))
        return found

    def start(self) -> BoardProcess:
        """Starts the server and waits until it has printed its address and answers."""
        self.runs.mkdir(parents=True, exist_ok=True)
        log = self.folder / "board.log"
        command = [
            sys.executable, "-m", "fulgurite", "board", "runs", *self.words, "--port", str(self.port), "--no-browser",
        ]
        with log.open("w", encoding="utf-8") as out:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=self.environment, stdout=out, stderr=out, text=True,
                start_new_session=True,
            )
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            found = ADDRESS.search(log.read_text(encoding="utf-8"))
            if found is not None and self.is_up():
                self.address = found[0]
                return self
            assert self.process.poll() is None, log.read_text(encoding="utf-8")
            time.sleep(0.02)
        raise AssertionError(f"The board did not start: {log.read_text(encoding='utf-8')}")

    def is_up(self) -> bool:
        """Returns whether the server answers; without a cookie it answers 401."""
        try:
            urllib.request.urlopen(f"{self.origin}/api/runs", timeout=5)
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True

    def kill(self) -> None:
        """Ends the server as a crash would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ends the server as Ctrl-C does."""
        self._end(signal.SIGINT)

    def _end(self, number: signal.Signals) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(number)
        try:
            self.process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def train(self, *words: str) -> subprocess.Popen[str]:
        """Starts `fulgurite train` on the command line, beside the board."""
        with (self.folder / "train.log").open("a", encoding="utf-8") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "fulgurite", "train", *words], cwd=self.folder, env=self.environment, stdout=log,
                stderr=log, text=True, start_new_session=True,
            )


def find_free_port() -> int:
    """Returns a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
