"""The documents of packed rows: where each begins and ends in a micro-batch.

Shapes: B rows of T tokens, N documents; the rows are read one after another, as one sequence of B·T tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Documents:
    """The documents of a micro-batch, computed on the CPU when it is made, so that attention asks the device nothing.

    No document spans two rows, and padding is a document of its own. Not a dataclass: strategies of torch take those
    apart where they move the arguments of a layer.
    """

    __slots__ = ("bounds", "lengths", "longest")

    def __init__(self, lengths: tuple[int, ...], bounds: Tensor) -> None:
        self.lengths = lengths
        self.bounds = bounds
        """Where each document begins, and the end of the last one: int32 [N + 1], on the device of the batch."""
        self.longest = max(lengths, default=0)

    @property
    def total(self) -> int:
        """The number of tokens, padding included."""
        return sum(self.lengths)

    def to(self, device: torch.device | str) -> Documents:
        """Returns the same documents with `bounds` on a device."""
        return Documents(self.lengths, self.bounds.to(device, non_blocking=True))


def find_documents(positions_BT: Tensor) -> Documents:
    """Returns the documents of rows whose positions start again at each document.

    A document begins where a position is not the one after the one before, as transformers reads packed rows.
    """
    begins_BT = torch.ones_like(positions_BT, dtype=torch.bool)
    begins_BT[:, 1:] = positions_BT.diff(dim=1) != 1
    starts = begins_BT.flatten().nonzero()[:, 0]
    bounds = torch.cat([starts, starts.new_tensor([positions_BT.numel()])])
    return Documents(tuple(bounds.diff().tolist()), bounds.to(torch.int32))
