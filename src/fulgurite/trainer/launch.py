"""Starts one process a rank of the same command, and ends them all together."""

# torch.distributed.run was looked at: it swallows its children's exit statuses and prints tracebacks of its own, and our
# statuses (2, 3, 130) are part of the command. Lightning's launcher re-runs a command line that Hydra has rewritten.

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType

from fulgurite.errors import TrainingFailed
from fulgurite.trainer.config import available

GRACE = 30.0
"""Seconds that the other ranks have to leave after one has failed."""


def launch(words: Sequence[str], processes: int) -> int:
    """Run `python -m fulgurite <words>` once a rank; returns the first status that is not 0, or 0.

    SIGINT and SIGTERM are handed on, so that the ranks save and leave together; when one rank fails the others are ended.
    """
    shared = os.environ | {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(processes),
        "OMP_NUM_THREADS": str(max(1, available() // processes)),
    }
    command = [sys.executable, "-m", "fulgurite", *words]
    ranks = [
        subprocess.Popen(command, env=shared | {"RANK": str(r), "LOCAL_RANK": str(r)}, start_new_session=True)
        for r in range(processes)
    ]

    def hand_on(number: int, frame: FrameType | None) -> None:
        for child in ranks:
            if child.poll() is None:
                child.send_signal(number)

    before = {number: signal.signal(number, hand_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return _wait(ranks)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for child in ranks:
            if child.poll() is None:
                child.kill()


def _wait(ranks: list[subprocess.Popen[bytes]]) -> int:
    failed, deadline = 0, float("inf")
    while any(child.poll() is None for child in ranks):
        statuses = [child.poll() for child in ranks]
        failed = failed or next((s for s in statuses if s), 0)
        if failed and deadline == float("inf"):
            deadline = time.monotonic() + GRACE
        if time.monotonic() > deadline:
            for child in ranks:
                if child.poll() is None:
                    child.kill()
        try:
            ranks[0].wait(0.2) if ranks[0].poll() is None else ranks[-1].wait(0.2)
        except subprocess.TimeoutExpired:
            continue
    statuses = [child.returncode for child in ranks]
    if TrainingFailed.exit_status in statuses:  # the rank that knows why; the others only lost their connection to it
        return TrainingFailed.exit_status
    worst = failed or next((s for s in statuses if s), 0)
    return worst if worst >= 0 else 128 - worst


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
