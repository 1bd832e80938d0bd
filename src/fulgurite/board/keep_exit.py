"""Runs a command and writes its exit status to a file: `python keep_exit.py FILE COMMAND...`.

The board may be killed while a run trains. Its successor is not the parent of the run, and could not know how it ended.
This process is small (8 MB): it imports nothing but the standard library, and does nothing but wait.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""Signals to the process group, which the command answers. A handler and not SIG_IGN, which the command would inherit.
"""
_noted: list[int] = []


def run_command(place: str, command: Sequence[str]) -> int:
    """Runs the command to its end; returns its exit status, which is negative after a signal, as in `subprocess`."""
    for number in SIGNALS:
        signal.signal(number, _note_signal)
    # Whoever stops the command as soon as it is started must not be ignored. A signal of before the command is passed
    # on; one between fork and exec would be lost in a copy of this process, which posix_spawn does not let happen.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    early = {*_noted, *signal.sigpending()} & {*SIGNALS}
    child = os.posix_spawn(command[0], list(command), os.environ, setsigmask=(), setsigdef=SIGNALS)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    for number in early:
        os.kill(child, number)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    draft = f"{place}.tmp-{os.getpid()}"
    with contextlib.suppress(OSError):  # a full disk: the run folder and the log then have to do
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
            stream.write(f"{code}\n")
        os.replace(draft, place)
    return code


def _note_signal(number: int, frame: FrameType | None) -> None:
    _noted.append(number)


if __name__ == "__main__":
    sys.exit(run_command(sys.argv[1], sys.argv[2:]) & 0xFF)
