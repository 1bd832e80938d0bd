"""Rows as padded micro-batches of tensors.

Shapes: B rows of a micro-batch, T tokens of its longest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from fulgurite.data.order import PoissonOrder, StepOrder
from fulgurite.data.rows import IGNORE, Rows

Cut = tuple[list[int], int]
"""The rows of a micro-batch, and the label tokens of its whole step."""


def train_loader(rows: Rows, order: StepOrder | PoissonOrder, position: Callable[[], int], workers: int = 0) -> DataLoader[Any]:
    """Micro-batches from step `position()` to the end of its epoch; its length is always a whole epoch's."""
    return DataLoader(_MicroBatches(rows), batch_size=None, sampler=_FromPosition(rows, order, position), num_workers=workers)


def val_loader(rows: Rows, micro_batch: int, processes: int = 1, rank: int = 0) -> DataLoader[Any]:
    """Every row once over all processes, neighbours of like length together. Processes may have one batch more or less."""
    ordered = [int(n) for n in np.argsort(rows.lengths, kind="stable")]
    cuts = [(ordered[i : i + micro_batch], 0) for i in range(0, len(ordered), micro_batch)]
    return DataLoader(_MicroBatches(rows), batch_size=None, sampler=cuts[rank::processes])


class _FromPosition(Sampler[Cut]):
    def __init__(self, rows: Rows, order: StepOrder | PoissonOrder, position: Callable[[], int]) -> None:
        self.rows, self.order, self.position = rows, order, position

    def __len__(self) -> int:
        return self.order.steps_per_epoch * self.order.micro_batches_per_step

    def __iter__(self) -> Iterator[Cut]:
        first = self.position()
        end = (first // self.order.steps_per_epoch + 1) * self.order.steps_per_epoch
        for step in range(first, end):
            targets = int(self.rows.label_counts[self.order.rows_of(step)].sum())
            for cut in self.order.micro_batches(step):
                yield cut, targets


class _MicroBatches(Dataset[Any]):
    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, cut: Cut) -> dict[str, Any]:
        numbers, targets = cut
        return collate(self.rows, numbers, targets)


def collate(rows: Rows, numbers: Sequence[int], step_targets: int) -> dict[str, Any]:
    """`input_ids`, `targets` [B, T] right-padded, `position_ids` only for packed rows.

    No attention mask: right padding comes after all real tokens, which under causal attention never see it, and packed
    rows are kept apart by positions that begin again (transformers reads them where no mask is given).
    """
    parts = [rows[n] for n in numbers]
    longest = max((len(p.input_ids) for p in parts), default=0)
    ids = torch.zeros(len(parts), longest, dtype=torch.int64)
    targets = torch.full((len(parts), longest), IGNORE, dtype=torch.int64)
    positions = torch.arange(longest).repeat(len(parts), 1)
    for i, part in enumerate(parts):
        n = len(part.input_ids)
        ids[i, :n], targets[i, :n] = torch.from_numpy(part.input_ids), torch.from_numpy(part.targets)
        positions[i, :n] = torch.from_numpy(part.position_ids)
        positions[i, n:] = torch.arange(longest - n)  # padding is one more document, of its own
    batch = {"input_ids": ids, "targets": targets, "step_targets": step_targets, "rows": list(numbers)}
    batch["tokens"] = sum(len(p.input_ids) for p in parts)
    return batch | {"position_ids": positions} if rows.packed else batch
