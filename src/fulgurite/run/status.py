"""status.json: the state of a run (running, finished, diverged, stopped or failed) and its reason.

A run holds the lock `run.lock` in its folder until its process ends. On this machine the lock decides whether it is
running; for a run of another machine status.json decides.
"""

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
from fulgurite.files.atomic import PRIVATE_FOLDER, write_file
from fulgurite.files.lock import FOR_READERS, hold_lock, is_locked
from fulgurite.language.library_errors import translate_system_error
from fulgurite.language.message import UserMessage, get_english, message

log = logging.getLogger(__name__)

LOCK = "run.lock"


@contextlib.contextmanager
def track_status(run_dir: Path, **facts: Any) -> Iterator[dict[str, Any]]:
    """Writes the status `running`, and at the end how the run ended; `facts` (such as total_steps) are kept in the
    file.

    If the block ends without an exception, the entries of the yielded mapping replace those of the final status.

    Not a Lightning callback: data and models may fail before there is a Trainer.
    """
    with contextlib.suppress(OSError):
        run_dir.mkdir(PRIVATE_FOLDER, parents=True, exist_ok=True)
    with lock_run(run_dir) as is_held:
        before = _read_text(run_dir)
        base = {"host": socket.gethostname(), "pid": os.getpid(), "locked": is_held, "started": time.time(), **facts}
        write_status(run_dir, {"state": "running", **base})
        found: dict[str, Any] = {}
        try:
            yield found
        except CheckpointError as error:  # a refused resume keeps the status of the earlier run
            if before is not None:
                write_file(run_dir / "status.json", before)
            else:
                write_status(run_dir, {"state": "failed", **_explain(error), **base, "ended": time.time()})
            raise
        except BaseException as error:
            state = "stopped" if isinstance(error, KeyboardInterrupt | Interrupted | Pruned) else "failed"
            write_status(run_dir, {"state": state, **_explain(error), **base, "ended": time.time()})
            raise
        write_status(run_dir, {"state": "finished", **base, "ended": time.time(), **found})


@contextlib.contextmanager
def lock_run(run_dir: Path) -> Iterator[bool]:
    """Locks the run folder against other processes of this machine. Raises RequestError if another one trains in it.

    Yields whether it is locked. If the folder cannot be locked (a file system without locks, a full disk), a warning is
    printed.
    """
    with contextlib.ExitStack() as stack:
        try:
            # The timeout lets a reader finish that tests the lock for a moment.
            fault = stack.enter_context(hold_lock(run_dir / LOCK, timeout=FOR_READERS))
        except TimeoutError:
            found = _read_running(run_dir)
            if found is not None and "pid" in found:
                holder = message("process {pid}", pid=found["pid"])
            else:
                holder = message("another process")
            raise RequestError(
                "{path} is in use: {holder} is training in it; wait for it, or give another run_dir.",
                path=run_dir, holder=holder,
            ) from None
        if fault and run_dir.is_dir():
            log.warning(message(
                "{path} cannot be locked ({reason}); do not start a second run in it.", path=run_dir, reason=fault
            ))
        yield not fault


def write_status(run_dir: Path, content: dict[str, Any]) -> None:
    """Replaces status.json. If the disk refuses, prints a warning: that never ends a run.

    Does not make a missing folder again.
    """
    try:
        write_file(run_dir / "status.json", json.dumps(content, indent=1) + "\n")
    except OSError as error:
        log.warning(message(
            "{path}/status.json cannot be written ({reason}); the run goes on.",
            path=run_dir, reason=translate_system_error(error),
        ))


def correct_status(
    run_dir: Path, state: str, why: str | UserMessage, ending: int | None = None, replace_reason: bool = False
) -> None:
    """Writes how a run ended if its process was killed before it could: its status is still `running`.

    `ending` is the id of a process that is about to end, and still holds the lock. With `replace_reason`, a failure
    that the process has written itself gets this reason.
    """
    found = _read_running(run_dir)
    if found is not None and (found.get("pid") == ending or not is_running(run_dir, found)):
        write_status(run_dir, {**found, "state": state, **_store_reason(why), "ended": time.time()})
    # The process has written a failure, but its parent knows the cause better.
    elif found is None and replace_reason:
        with contextlib.suppress(ValueError, TypeError):
            kept = dict(json.loads(_read_text(run_dir) or "{}"))
            if kept.get("state") == "failed":
                kept.pop("because", None)
                write_status(run_dir, {**kept, **_store_reason(why)})


def is_running(run_dir: Path, status: dict[str, Any]) -> bool:
    """Returns whether the run that wrote a status is running.

    On this machine it is if its lock is held. The status decides for a run of another machine, and for one that could
    not be locked.
    """
    if status.get("state") != "running":
        return False
    # The id of a process and a lock mean something on their own machine only.
    if status.get("host") not in (None, socket.gethostname()) or status.get("locked") is False:
        return True
    return is_locked(run_dir / LOCK)


def _read_running(run_dir: Path) -> dict[str, Any] | None:
    """Reads the status of a run of this machine that is `running` by its status; else returns None."""
    try:
        found = json.loads(_read_text(run_dir) or "{}")
    except ValueError:
        return None
    is_here = isinstance(found, dict) and found.get("state") == "running" and found.get("host") == socket.gethostname()
    return found if is_here else None


def _read_text(run_dir: Path) -> str | None:
    try:
        return (run_dir / "status.json").read_text(encoding="utf-8")
    except OSError:
        return None


def _store_reason(why: str | UserMessage) -> dict[str, Any]:
    stored = {"why": get_english(why)}
    return stored | ({"because": why.to_json()} if isinstance(why, UserMessage) and why else {})


def _explain(error: BaseException) -> dict[str, Any]:
    """Returns the reason for status.json: in English, whatever language is in use, and as data for another language."""
    name, text = type(error).__name__, get_english(error)
    why = {"why": f"{name}: {' '.join(text.split())}" if text.strip() else name}
    sentence = getattr(error, "message", None)
    return why | ({"because": sentence.to_json()} if isinstance(sentence, UserMessage) and sentence else {})
