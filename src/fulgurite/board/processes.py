"""Processes by their id and the time at which they began, and signals to those of a run."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from pathlib import Path

import psutil

from fulgurite.errors import RequestError
from fulgurite.files.json import read_object
from fulgurite.files.lock import is_locked
from fulgurite.run.status import LOCK

SLACK = 5.0
"""Seconds by which a process may seem to have begun after it wrote its status: clocks are corrected."""
BOOT = Path("/proc/sys/kernel/random/boot_id")


def read_birth(pid: int) -> str | None:
    """Returns a text that no other process of this machine has, also not a later one with the same id; None if there
    is no such process, or if it has ended and is waited for."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        began = _read_ticks(pid)
        # ticks since the boot do not move if the clock is set
        return f"{BOOT.read_text().strip()}:{began}" if began else f"{process.create_time():.2f}"
    except (psutil.Error, OSError, ValueError):
        return None


def _read_ticks(pid: int) -> str:
    with contextlib.suppress(OSError, IndexError):
        # the name, in parentheses, may have spaces and parentheses itself
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    return ""


def is_same(pid: int, birth: str | None) -> bool:
    """Returns whether the process that had this birth is running."""
    return birth is not None and pid > 1 and read_birth(pid) == birth


def signal_group(pid: int, birth: str | None, number: signal.Signals) -> bool:
    """Sends a signal to the process group of a process that we started; returns False if it is gone."""
    if not is_same(pid, birth):
        return False
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return False
    return True


def signal_run(folder: Path, number: signal.Signals) -> None:
    """Sends a signal to the process that trains in a run folder, if it is one of this machine. Raises RequestError.

    Its lock is held, so that the process in status.json is alive: it writes its id after it has locked the folder.
    """
    try:
        found = read_object(folder / "status.json")
    except (OSError, ValueError):
        raise RequestError("The file status.json of this run cannot be read; stop it where it was started.") from None
    host, pid, started = found.get("host"), found.get("pid"), found.get("started")
    if host != socket.gethostname():
        raise RequestError("This run is on {host}; stop it there.", host=host or "?")
    if not is_locked(folder / LOCK) or type(pid) is not int or pid <= 1:
        raise RequestError("This run has ended already.")
    try:
        begun = psutil.Process(pid).create_time()
        if not isinstance(started, int | float) or begun > started + SLACK:
            raise RequestError("The process of this run cannot be identified; stop it where it was started.")
        os.kill(pid, number)
    except (psutil.NoSuchProcess, ProcessLookupError):
        raise RequestError("This run has ended already.") from None
    except (psutil.AccessDenied, PermissionError):
        raise RequestError("This run belongs to another user; stop it where it was started.") from None
