"""Small files that a reader may open at any instant: they are replaced whole, never half-written."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
from pathlib import Path

DRAFT = re.compile(r"(?P<name>.+)\.tmp-(?:old-)?(?P<pid>[0-9]+)")
"""What a file or folder is called while it is written: its name, and the process that writes."""


PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700
"""Modes of what a run writes, which may hold its data or a secret: its owner alone, whatever the umask."""


def replace(path: Path, text: str) -> None:
    """Write `text` beside `path`, then rename over it. Raises OSError, and leaves the old file as it was.

    A new file is its owner's alone; one that was shared on purpose keeps its mode.
    No fsync: what must outlive a power cut is a checkpoint, not a log.
    """
    beside = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        mode = stat.S_IMODE(path.stat().st_mode) if path.is_file() else PRIVATE_FILE
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE_FILE), "w", encoding="utf-8") as stream:
            stream.write(text)
        if mode != PRIVATE_FILE:
            beside.chmod(mode)
        os.replace(beside, path)
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise


def remove_drafts(folder: Path, name: str | None = None) -> list[str]:
    """Remove the drafts (of `name` alone, if given) of processes that are gone; returns what was removed.

    A draft that cannot be removed stays: it is in nobody's way.
    """
    removed = []
    with contextlib.suppress(OSError):
        for path in sorted(folder.iterdir()):
            found = DRAFT.fullmatch(path.name)
            if found is None or name not in (None, found["name"]) or _writes(int(found["pid"]), path):
                continue
            with contextlib.suppress(OSError):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
                removed.append(path.name)
    return removed


def _writes(pid: int, draft: Path) -> bool:
    """Whether the process that began the draft still runs: this number may be another's by now, that started later."""
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return bool(process.create_time() <= draft.lstat().st_mtime + 1)
    except psutil.AccessDenied:
        return True
    except (psutil.Error, OSError, OverflowError):
        return False
