"""Locks that a process holds on a file: another process finds out from the lock whether that process is alive.

A lock ends with its process: no process id is compared, which another process may have by now, and no clock.
filelock closes the descriptor in a forked child, so that the workers of a killed process do not keep its lock.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fulgurite.files.atomic import PRIVATE_FILE
from fulgurite.language.library_errors import translate_error
from fulgurite.language.message import UserMessage

FOR_READERS = 1.0
"""Seconds to wait for a free lock: `is_locked` of another process may hold it for an instant."""

_own: dict[tuple[int, Path], Path | None] = {}
"""The lock files of this process, by its id (a forked child has none) and their folder."""


@contextlib.contextmanager
def hold_lock(path: Path, timeout: float = -1) -> Iterator[UserMessage]:
    """Holds a lock file against all other processes of this machine, and removes it at the end.

    Yields why it could not be locked (a file system without locks, a full disk), an empty message if it was. Waits
    `timeout` seconds for another process, without end if it is negative. Raises TimeoutError if that process still
    holds it.
    """
    lock, fault = None, UserMessage()
    try:
        lock = _acquire(path, timeout)
    # TimeoutError is an OSError, and the only one that the caller has to see.
    except TimeoutError:
        raise
    except (OSError, NotImplementedError) as error:
        fault = translate_error(error)
    try:
        yield fault
    finally:
        if lock is not None:
            _remove(path, lock)


def is_locked(path: Path) -> bool:
    """Returns whether a process of this machine holds a lock file; true if the file exists and that cannot be found
    out.
    """
    import fcntl

    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError as error:
        # Not readable, for example: it exists, so it counts as held.
        return error.errno not in (errno.ENOENT, errno.ENOTDIR)
    try:
        # shared, so that two processes that ask at once do not take each other for the holder
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def hold_process_lock(folder: Path) -> Path | None:
    """Holds a lock file of this process in `folder` until the process ends, and returns it; None if files cannot be
    locked there.
    """
    # By process id: a forked child inherits this dictionary, but not the right to its parent's file.
    key = os.getpid(), folder.resolve()
    if key not in _own:
        path = key[1] / f".process-{key[0]}-{uuid.uuid4().hex[:12]}.lock"
        try:
            atexit.register(_remove_own, key[0], path, _acquire(path, 0))
            _own[key] = path
        except (OSError, NotImplementedError):
            # Remembered, too, so that a folder without locks is not tried again.
            _own[key] = None
    return _own[key]


def remove_process_locks(folder: Path) -> None:
    """Removes the lock files that killed processes left in a folder."""
    for path in folder.glob(".process-*.lock"):
        if not is_locked(path):
            with contextlib.suppress(OSError):
                path.unlink()


def _acquire(path: Path, timeout: float) -> Any:
    from filelock import FileLock

    # no fallback to locks that are mere files: one that a killed process left would be held for ever
    lock = FileLock(path, mode=PRIVATE_FILE, fallback_to_soft=False)
    lock.acquire(timeout=timeout)
    return lock


def _remove(path: Path, lock: Any) -> None:
    """Removes a lock file while it is held (a process that waits for it then makes another), and releases it."""
    with contextlib.suppress(OSError):
        path.unlink()
    with contextlib.suppress(OSError):
        lock.release()


def _remove_own(pid: int, path: Path, lock: Any) -> None:
    # atexit runs in forked children as well.
    if pid == os.getpid():
        _remove(path, lock)
