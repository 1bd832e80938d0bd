"""Where what was made once is kept: converted models and tokenised data."""

from __future__ import annotations

import os
from pathlib import Path


def find_cache_root() -> Path:
    """`$FULGURITE_CACHE`, else `~/.cache/fulgurite`."""
    return Path(os.environ.get("FULGURITE_CACHE") or Path.home() / ".cache" / "fulgurite")
