"""Best-fit packing: which examples share a row (Ding et al., https://arxiv.org/abs/2404.10830).

TRL packs whole data sets in memory through pyarrow, transformers only flattens a batch; neither takes lengths alone,
which is all that is needed here and what a memory-mapped data set has at hand.
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Sequence


def pack_best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Bins of example numbers, each at most `capacity` tokens: longest first, each into the fullest bin that has room.

    Raises ValueError for an example longer than the capacity. Time is n log n.
    """
    bins: list[list[int]] = []
    waiting: dict[int, list[int]] = defaultdict(list)  # room left -> bins
    rooms: list[int] = []  # the keys of `waiting`, sorted
    for number in sorted(range(len(lengths)), key=lambda n: (-lengths[n], n)):
        length = int(lengths[number])
        if length > capacity:
            raise ValueError(f"example {number} has {length} tokens and a row {capacity}")
        at = bisect.bisect_left(rooms, length)
        if at == len(rooms):
            bins.append([number])
            where, room = len(bins) - 1, capacity
        else:
            room = rooms[at]
            where = waiting[room].pop()
            bins[where].append(number)
            if not waiting[room]:
                del waiting[room]
                rooms.pop(at)
        left = room - length
        if left not in waiting:
            bisect.insort(rooms, left)
        waiting[left].append(where)
    return bins
