"""The folder of the cache: converted models and tokenized data."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from fulgurite.files.lock import hold_lock


def find_cache_root() -> Path:
    """Returns `$FULGURITE_CACHE`, or else `~/.cache/fulgurite`."""
    # An empty variable counts as unset.
    return Path(os.environ.get("FULGURITE_CACHE") or Path.home() / ".cache" / "fulgurite")


@contextlib.contextmanager
def wait_for_others(cache_dir: Path, key: str) -> Iterator[None]:
    """Runs the block in one process of this machine at a time, so that the first one tokenizes for all of them.

    If the file system has no locks, all of them tokenize, as processes of different machines do.
    """
    with contextlib.suppress(OSError):  # tokenizing reports a cache that cannot be written
        (cache_dir / "locks").mkdir(parents=True, exist_ok=True)
    with hold_lock(cache_dir / "locks" / key):
        yield
