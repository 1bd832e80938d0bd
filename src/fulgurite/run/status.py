"""status.json: whether a run runs, has finished, has diverged, was stopped or has failed, and why."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fulgurite.errors import CheckpointError, Interrupted, Pruned, RequestError
from fulgurite.files import PRIVATE_FOLDER, replace

log = logging.getLogger(__name__)

LOCK = "run.lock"
LEFT_BEHIND = 10.0
"""Seconds that the lock of a killed run is waited for."""


@contextlib.contextmanager
def status(run_dir: Path, **facts: Any) -> Iterator[dict[str, Any]]:
    """Say `running` now, and at the end how it went; `facts` (such as total_steps) are kept in the file.

    What is put into the mapping that it gives wins at the end of a run that was not ended by an exception: another state, and more.

    Not a Lightning callback: data and models fail before there is a trainer.
    """
    with contextlib.suppress(OSError):
        run_dir.mkdir(PRIVATE_FOLDER, parents=True, exist_ok=True)
    with held(run_dir):
        before = _text(run_dir)
        _refuse_two(run_dir, before)
        base = {**this_process(), "started": time.time(), **facts}
        write(run_dir, {"state": "running", **base})
        found: dict[str, Any] = {}
        try:
            yield found
        except CheckpointError as error:  # a run that is not gone on with stays what it was
            if before is not None:
                replace(run_dir / "status.json", before)
            else:
                write(run_dir, {"state": "failed", "why": _why(error), **base, "ended": time.time()})
            raise
        except BaseException as error:
            state = "stopped" if isinstance(error, KeyboardInterrupt | Interrupted | Pruned) else "failed"
            write(run_dir, {"state": state, "why": _why(error), **base, "ended": time.time()})
            raise
        write(run_dir, {"state": "finished", **base, "ended": time.time(), **found})


@contextlib.contextmanager
def held(run_dir: Path) -> Iterator[None]:
    """Lock the run folder against other processes of this machine, by `run.lock` in it. Raises RequestError if another one holds it.

    A folder that cannot be locked (a file system without locks, a full disk) is warned about: status.json still tells who trains.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(run_dir / LOCK, mode=0o600)
    found = _running(_text(run_dir))
    # the workers of a run that was killed hold its lock until they notice, some seconds later
    patience = LEFT_BEHIND if found is not None and not alive(found) else 0.0
    try:
        lock.acquire(timeout=patience)
    except Timeout:
        raise _taken(run_dir, found) from None
    except (OSError, NotImplementedError) as error:
        if run_dir.is_dir():
            log.warning("%s cannot be locked (%s); do not start a second run in it.", run_dir, error)
        yield
        return
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # while it is held: whoever waits for it finds it unlinked, and makes another
            (run_dir / LOCK).unlink()
        with contextlib.suppress(OSError):
            lock.release()


def write(run_dir: Path, what: dict[str, Any]) -> None:
    """Replace status.json whole. A disk that refuses is warned about: it never ends a run. A folder that is gone is not made again."""
    try:
        replace(run_dir / "status.json", json.dumps(what, indent=1) + "\n")
    except OSError as error:
        log.warning("%s/status.json cannot be written (%s).", run_dir, error.strerror)


def mend(run_dir: Path, state: str, why: str, of: int | None = None, known_better: bool = False) -> None:
    """Write how a run ended whose process was killed before it could: its status is `running` still.

    `of` is a process that is about to end. With `known_better` a failure that the process has written itself gets this reason, too.
    """
    text = _text(run_dir)
    found = _running(text)
    if found is not None and (found.get("pid") == of or not alive(found)):
        write(run_dir, {**found, "state": state, "why": why, "ended": time.time()})
    elif known_better and text is not None:
        with contextlib.suppress(ValueError, TypeError):
            if (kept := dict(json.loads(text))).get("state") == "failed":
                write(run_dir, {**kept, "why": why})


def this_process() -> dict[str, Any]:
    """What `alive` knows this process by: its machine, its number, and when it started."""
    import psutil

    me = psutil.Process()
    return {"host": socket.gethostname(), "pid": me.pid, "process_started": _started(me)}


def _started(process: Any) -> float:
    """Seconds from the machine's start to the process's. On Linux psutil makes both from the clock on the wall, which may be set while
    a run trains (a machine that slept, NTP); their difference stays. Elsewhere the system keeps the time of day of the start itself.
    """
    import psutil

    since: float = process.create_time()
    return since - psutil.boot_time() if psutil.LINUX else since


def alive(found: dict[str, Any]) -> bool:
    """Whether the process that wrote a status still runs; one of another machine is believed.

    A process id is used again after a while: the time of the process's start must match, too.
    """
    import psutil

    if found.get("host") not in (None, socket.gethostname()):
        return True
    pid, since = found.get("pid"), found.get("process_started")
    if not isinstance(pid, int) or not 0 < pid < 1 << 31:
        return False
    if pid == os.getpid():
        return True
    try:
        process = psutil.Process(pid)
        same = not isinstance(since, int | float) or abs(_started(process) - since) < 0.1
        return same and bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.AccessDenied:
        return True
    except psutil.Error:
        return False


def _refuse_two(run_dir: Path, before: str | None) -> None:
    """Raise RequestError where another process of this machine trains in the folder: both would write the same files."""
    found = _running(before)
    if found is not None and found.get("pid") != os.getpid() and alive(found):
        raise _taken(run_dir, found)


def _taken(run_dir: Path, found: dict[str, Any] | None) -> RequestError:
    who = f"process {found['pid']}" if found is not None and "pid" in found else "another process"
    return RequestError(f"{run_dir} is being trained by {who}; wait for it, or give another run_dir.")


def _running(text: str | None) -> dict[str, Any] | None:
    """The status of a run of this machine that says `running`, else None."""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return None
    running = isinstance(found, dict) and found.get("state") == "running" and found.get("host") == socket.gethostname()
    return found if running else None


def _text(run_dir: Path) -> str | None:
    try:
        return (run_dir / "status.json").read_text(encoding="utf-8")
    except OSError:
        return None


def _why(error: BaseException) -> str:
    name = type(error).__name__
    return f"{name}: {' '.join(str(error).split())}" if str(error).strip() else name
