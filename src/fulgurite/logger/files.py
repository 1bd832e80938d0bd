"""Small files that a reader may open at any instant: they are replaced whole, never half-written."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


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
