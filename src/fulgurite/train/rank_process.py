"""What one of several processes does for its launcher: it ends when the launcher does, and hands its error line to it.

Without this a terminal that closes, or a launcher that is killed, leaves every rank training. Imports
nothing heavy: a rank calls
`follow_launcher` before it loads torch.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from fulgurite.errors import Interrupted
from fulgurite.language.message import message
from fulgurite.run.status import correct_status

LAUNCHER = "FULGURITE_LAUNCHER"
"""The environment variable with the launcher's process id, the descriptor of the pipe to it, and the run folder."""
TO_LEAVE = 8.0
"""Seconds that a rank has to save and leave after its launcher is gone; then it is killed."""
EVERY = 0.5
PR_SET_PDEATHSIG = 1
"""Of prctl(2): the signal that this process gets when its parent dies."""


@dataclass(frozen=True, slots=True)
class RankReport:
    """How a rank ended: its exit status and its error line; `lost` if all it knows is that another rank is gone."""

    status: int
    line: str
    lost: bool = False


class _Link:
    """The way to the launcher; closed in a process that has none."""

    pipe: int | None = None


def build_environment(pipe: int, folder: Path | None) -> dict[str, str]:
    """The variable by which a rank finds its launcher; only the first rank of a run needs its folder."""
    return {LAUNCHER: json.dumps([os.getpid(), pipe, str(folder or "")])}


def quiet_torch() -> None:
    """Hides the warnings of torch's C++ code, such as one of four lines from each rank of ddp about the search for
    unused parameters, which `strategy/build.py` wants. They have no other switch, and torch reads it when it is loaded;
    errors, and warnings of its Python code, are still shown."""
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


def follow_launcher() -> None:
    """End this process within 10 s of its launcher's end; does nothing if it has none.
    Raises Interrupted if it is gone already."""
    link = os.environ.pop(LAUNCHER, "")  # what this process starts is no rank
    if not link:
        return
    launcher, pipe, folder = json.loads(link)
    # Processes that this one starts, such as data workers, are no ranks and get no end of the pipe.
    os.set_inheritable(pipe, False)
    _Link.pipe = pipe
    asked = _ask_for_signal()
    if os.getppid() != launcher:  # it ended before the kernel was asked
        raise Interrupted("The launcher of this run is gone.", signal.SIGTERM)
    threading.Thread(target=_watch, args=(launcher, asked, Path(folder)), name="launcher-watch", daemon=True).start()


def report(found: RankReport) -> bool:
    """Hand the error line to the launcher, which prints one for all ranks. False if there is no
    launcher: print it here."""
    if _Link.pipe is None:
        return False
    try:
        os.write(_Link.pipe, json.dumps(asdict(found)).encode() + b"\n")
    except OSError:
        return False
    return True


def _ask_for_signal() -> bool:
    """Ask the kernel for SIGTERM when the parent dies; False on systems that cannot."""
    if sys.platform != "linux":
        return False
    with contextlib.suppress(OSError, AttributeError):
        return bool(ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) == 0)
    return False


def _watch(launcher: int, asked: bool, folder: Path) -> None:
    """Wait for the launcher's end, then give the main thread some seconds to save and leave."""
    while os.getppid() == launcher:
        time.sleep(EVERY)
    # The kernel sends no signal on this system, so this thread does.
    if not asked:
        os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(TO_LEAVE)
    # Only the first process writes into the run folder.
    if os.environ.get("RANK") == "0":
        with contextlib.suppress(Exception):
            why = message("The launcher was killed, and the step did not end within {seconds:g} s.", seconds=TO_LEAVE)
            correct_status(folder, "stopped", why, ending=os.getpid())
    os.kill(os.getpid(), signal.SIGKILL)
