"""Best-fit packing of examples into rows (Ding et al., https://arxiv.org/abs/2404.10830).

TRL packs whole datasets in memory through pyarrow, transformers only flattens a batch. Neither takes lengths alone,
which a memory-mapped dataset has.
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Sequence


def pack_best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Returns bins of example numbers of at most `capacity` tokens. The longest example comes first; each goes into the
    fullest bin that has room.

    Raises ValueError for an example longer than the capacity. Time is n log n.
    """
    bins: list[list[int]] = []
    # The bins with each number of free tokens, and these numbers in ascending order.
    waiting: dict[int, list[int]] = defaultdict(list)
    rooms: list[int] = []
    # Descending by length; equal lengths in the order of the data, so that the result is the same everywhere.
    for number in sorted(range(len(lengths)), key=lambda n: (-lengths[n], n)):
        length = int(lengths[number])
        if length > capacity:
            raise ValueError(f"example {number} has {length} tokens, more than the {capacity} of a row")
        # The smallest free space that is large enough.
        at = bisect.bisect_left(rooms, length)
        if at == len(rooms):
            bins.append([number])
            bin_number, room = len(bins) - 1, capacity
        else:
            room = rooms[at]
            # Any bin with this room will do; the last one needs no shifting of the list.
            bin_number = waiting[room].pop()
            bins[bin_number].append(number)
            if not waiting[room]:
                del waiting[room]
                rooms.pop(at)
        left = room - length
        # `rooms` has each number of free tokens once, however many bins share it.
        if left not in waiting:
            bisect.insort(rooms, left)
        waiting[left].append(bin_number)
    return bins
