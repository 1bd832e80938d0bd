"""How fast this machine multiplies matrices: measured once, kept in the cache, and measured again by each new process.

Other programs only make a measurement slower, so that the fastest of all is kept.
"""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from fulgurite.data.cache import find_cache_root
from fulgurite.files.atomic import write_file
from fulgurite.files.json import read_object
from fulgurite.strategy.config import available

if TYPE_CHECKING:
    import torch

ROWS, NARROWEST, WIDEST = 512, 64, 2048
SECONDS, FEWEST = 0.15, 5
"""Seconds of a measurement, and the fewest products in it."""


class RateBook:
    """The rates of this machine by compute type and width."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or find_cache_root() / "board" / "rates.json"
        self._measured: dict[str, float] = {}

    def find(self, dtype: torch.dtype, hidden: int) -> float:
        """Returns the operations a second of a product of this width on all cores."""
        width = 1 << max(min(hidden, WIDEST), NARROWEST).bit_length() - 1
        name = f"{str(dtype).removeprefix('torch.')} {width}"
        if name not in self._measured:
            kept = self._read()
            self._measured[name] = max(measure_rate(dtype, width), kept.get(name, 0.0))
            with contextlib.suppress(OSError):  # it is measured again then
                write_file(self._path, json.dumps(kept | self._measured))
        return self._measured[name] * available()

    def _read(self) -> dict[str, float]:
        try:
            return {name: float(rate) for name, rate in read_object(self._path).items()}
        except (OSError, ValueError, TypeError):
            return {}


def measure_rate(dtype: torch.dtype, width: int) -> float:
    """Returns the most operations a second of one core that some products within a fraction of a second reach."""
    import torch

    left, right = torch.ones(ROWS, width, dtype=dtype), torch.ones(width, width, dtype=dtype)
    best, end, done = float("inf"), time.perf_counter() + SECONDS, 0
    while done < FEWEST or time.perf_counter() < end:
        begin = time.perf_counter()
        torch.mm(left, right)
        best, done = min(best, time.perf_counter() - begin), done + 1
    return 2.0 * ROWS * width * width / best
