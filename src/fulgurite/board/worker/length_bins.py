"""The histogram of lengths that the page draws: bars of one step, and what is longer than nearly all in a last bar."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MOST = 24
"""The most bars of one step."""
STEPS = [size * 10**power for power in range(7) for size in (1, 2, 5)]


def count_bins(lengths: Sequence[int] | NDArray[np.int64], cut: int = 0) -> list[list[int]]:
    """Returns bars as [longest length, number of examples]; one of them ends at `cut`, if examples are longer.

    The step follows the 99th percentile, so that one long example does not press the others into a single bar.
    Powers of two, as in `data_report.json`, are too coarse for a drawing: most data sets fall into two or three.
    """
    found = np.asarray(lengths, dtype=np.int64)
    if not found.size:
        return []
    common = max(int(np.ceil(np.percentile(found, 99))), 1)
    step = next(step for step in STEPS if common <= MOST * step)
    tops = list(range(step, common + step, step))
    longest = int(found.max())
    edges = sorted({*tops, *([longest] if longest > tops[-1] else []), *([cut] if 0 < cut < longest else [])})
    # an example of exactly the length of an edge belongs to the bar below it
    counts = np.bincount(np.searchsorted(edges, found, side="left"), minlength=len(edges))
    return [[top, int(count)] for top, count in zip(edges, counts, strict=True)]
