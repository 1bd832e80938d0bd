"""Small files that a reader may open at any instant: they are replaced whole, never half-written."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from pathlib import Path

DRAFT = re.compile(r"(?P<name>.+)\.tmp-(?:old-)?(?P<pid>[0-9]+)")
"""What a file or folder is called while it is written: its name, and the process that writes."""


def replace(path: Path, text: str) -> None:
    """Write `text` beside `path`, then rename over it. Raises OSError, and leaves the old file as it was.

    No fsync: what must outlive a power cut is a checkpoint, not a log.
    """
    beside = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8")
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
