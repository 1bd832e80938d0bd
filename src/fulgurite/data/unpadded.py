"""The tokens of a padded micro-batch as one row of documents, without its padding.

A padded micro-batch computes its padding in every layer; the tokens of its rows, one after another, do not. Attention
keeps them apart as it does the documents of packed rows. The micro-batch itself stays padded, because losses are
computed by row: only what goes through the model is unpadded.

Shapes: B rows of T tokens, N of the B·T are not padding, L labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fulgurite.data.documents import Documents, find_documents

LEAST = 0.02
"""The share of padding from which it is left out. With less, rows are as fast: one attention computes them all."""


class Unpadded:
    """Which tokens of a micro-batch are not padding, computed on the CPU when it is made, so that no pass waits for the
    device. Not a dataclass, for the reason of `Documents`."""

    __slots__ = ("documents", "positions_1N", "shape", "source_N", "target_BT")

    def __init__(
        self, shape: tuple[int, int], source_N: Tensor, target_BT: Tensor, positions_1N: Tensor, documents: Documents
    ) -> None:
        self.shape = shape
        """B and T."""
        self.source_N = source_N
        """The place of each token among all B·T, int64."""
        self.target_BT = target_BT
        """The place of each of the B·T tokens among the N, int64 [B·T]; of padding, that of a token before it."""
        self.positions_1N, self.documents = positions_1N, documents

    def to(self, device: torch.device | str) -> Unpadded:
        """Returns the same on a device."""
        return Unpadded(
            self.shape, self.source_N.to(device, non_blocking=True), self.target_BT.to(device, non_blocking=True),
            self.positions_1N.to(device, non_blocking=True), self.documents.to(device),
        )

    def take(self, values_BT: Tensor) -> Tensor:
        """Returns the values of the tokens that are not padding, [1, N]."""
        return values_BT.flatten()[self.source_N][None]

    def place(self, labels: Tensor) -> Tensor:
        """Returns labels among the N tokens: a bool [B, T] as bool [1, N], places among all B·T as places among N."""
        return self.take(labels) if labels.dtype == torch.bool else self.target_BT[labels]

    def restore(self, values_1ND: Tensor) -> Tensor:
        """Returns values by row, [B, T, D], in which padding has those of a token before it."""
        return values_1ND[0].index_select(0, self.target_BT).view(*self.shape, -1)


def find_unpadded(lengths: Sequence[int], longest: int, positions_BT: Tensor | None = None) -> Unpadded | None:
    """Returns the tokens of rows of `lengths` tokens, padded on the right to `longest`; None if so little is padding
    that leaving it out would gain nothing.

    `positions_BT` are those of packed rows, which start again at each document; otherwise each row is a document.
    """
    total = sum(lengths)
    if total == 0 or 1 - total / (len(lengths) * longest) < LEAST:
        return None
    places_T = torch.arange(longest)
    real_BT = places_T < torch.tensor(lengths)[:, None]
    if positions_BT is None:
        positions_BT = places_T.expand(len(lengths), -1)
    # Each token has as many tokens before it as are counted up to it; padding counts as none.
    target_BT = (real_BT.flatten().cumsum(0) - 1).clamp(min=0)
    positions_1N = positions_BT[real_BT][None]
    source_N = real_BT.flatten().nonzero()[:, 0]
    return Unpadded((len(lengths), longest), source_N, target_BT, positions_1N, find_documents(positions_1N))


def describe_unpadded(lengths: Sequence[int], longest: int, positions_BT: Tensor | None = None) -> dict[str, Any]:
    """Returns the entry `unpadded` of a micro-batch; none if it is to be computed as it is."""
    found = find_unpadded(lengths, longest, positions_BT)
    return {} if found is None else {"unpadded": found}
