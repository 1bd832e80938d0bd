"""Which examples make which step: a pure function of seed, epoch and step, so that a resumed run sees what it would have seen."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


class StepOrder:
    """Optimizer steps as micro-batches of row numbers, for one process of several.

    Every step has exactly `micro_batches_per_step` micro-batches for each process, of at most `micro_batch` rows; the
    rows of a step are sorted by length and neighbours share a micro-batch, so that padding is small. Where a step has too
    few rows the empty micro-batches come first: the optimizer steps after the last one, which then has work in it.
    """

    def __init__(
        self, lengths: Ints, batch_size: int, micro_batch: int, processes: int, rank: int, seed: int, shuffle: bool
    ) -> None:
        self.lengths, self.batch_size, self.micro_batch = lengths, batch_size, micro_batch
        self.processes, self.rank, self.seed, self.shuffle = processes, rank, seed, shuffle
        self.steps_per_epoch = math.ceil(len(lengths) / batch_size)
        self.micro_batches_per_step = math.ceil(batch_size / (micro_batch * processes))
        self._epoch: tuple[int, Ints] = (-1, np.zeros(0, dtype=np.int64))

    def permutation(self, epoch: int) -> Ints:
        """The rows in the order of an epoch."""
        if self._epoch[0] != epoch:
            rows = np.arange(len(self.lengths), dtype=np.int64)
            self._epoch = (epoch, np.random.default_rng([self.seed, epoch]).permutation(rows) if self.shuffle else rows)
        return self._epoch[1]

    def rows_of(self, step: int) -> Ints:
        """All rows of a step, over all processes, longest last."""
        epoch, position = divmod(step, self.steps_per_epoch)
        rows = self.permutation(epoch)[position * self.batch_size : (position + 1) * self.batch_size]
        return rows[np.argsort(self.lengths[rows], kind="stable")]

    def micro_batches(self, step: int) -> list[list[int]]:
        """This process's micro-batches of a step."""
        rows = self.rows_of(step)
        every = self.micro_batches_per_step * self.processes
        cuts = [list(map(int, rows[i : i + self.micro_batch])) for i in range(0, len(rows), self.micro_batch)]
        cuts = [[] for _ in range(every - len(cuts))] + cuts
        return cuts[self.rank :: self.processes]


def mismatched(rows: Sequence[int], seed: Sequence[int]) -> dict[int, int]:
    """For each row another of the same step, each once: a circle drawn from `seed`. Empty where there is only one row."""
    if len(rows) < 2:
        return {}
    circle = np.random.default_rng([*seed, 1]).permutation(np.array(rows, dtype=np.int64)).tolist()
    return dict(zip(circle, [*circle[1:], circle[0]], strict=True))
