"""The folder of the cache: converted models and tokenized data."""

from __future__ import annotations

import os
from pathlib import Path


def find_cache_root() -> Path:
    """Returns `$FULGURITE_CACHE`, or else `~/.cache/fulgurite`."""
    # An empty variable counts as unset.
    return Path(os.environ.get("FULGURITE_CACHE") or Path.home() / ".cache" / "fulgurite")
