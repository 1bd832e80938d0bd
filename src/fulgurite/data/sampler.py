"""The examples of each step: a pure function of seed, epoch and step, so that a resumed run sees the same examples."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from itertools import cycle

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


class StepSampler:
    """Optimizer steps as micro-batches of row numbers, for one process of several.

    Every step has exactly `micro_batches_per_step` micro-batches for each process, of at most `micro_batch` rows; the
    rows of a step are sorted by length and neighbours share a micro-batch, so that padding is small. If a step has too
    few rows, the empty micro-batches come first, because the optimizer steps after the last one.
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
        """Returns the rows in the order of an epoch."""
        if self._epoch[0] != epoch:
            rows = np.arange(len(self.lengths), dtype=np.int64)
            # Seeded by seed and epoch: any epoch can be computed without those before it.
            self._epoch = (epoch, np.random.default_rng([self.seed, epoch]).permutation(rows) if self.shuffle else rows)
        return self._epoch[1]

    def list_rows(self, step: int) -> Ints:
        """Returns all rows of a step, over all processes, longest last."""
        epoch, position = divmod(step, self.steps_per_epoch)
        rows = self.permutation(epoch)[position * self.batch_size : (position + 1) * self.batch_size]
        # Stable: rows of equal length keep their drawn order on every machine.
        return rows[np.argsort(self.lengths[rows], kind="stable")]

    def list_micro_batches(self, step: int) -> list[list[int]]:
        """Returns this process's micro-batches of a step."""
        rows = self.list_rows(step)
        # Cut the sorted rows into micro-batches, and give them to the processes in turn.
        every = self.micro_batches_per_step * self.processes
        cuts = [list(map(int, rows[i : i + self.micro_batch])) for i in range(0, len(rows), self.micro_batch)]
        # Each process has as many micro-batches, or the others would wait for its gradients.
        cuts = [[] for _ in range(every - len(cuts))] + cuts
        return cuts[self.rank :: self.processes]


class PoissonSampler:
    """Steps for differential privacy: `draw(step)` returns the rows of a step, each drawn independently, so that there
    may be few, many or none.

    It makes micro-batches like StepSampler, for one process. Their number is fixed, enough for three standard
    deviations. A larger draw is not cut, which would break the guarantee: its micro-batches exceed `micro_batch`.
    """

    def __init__(self, lengths: Ints, batch_size: int, micro_batch: int, draw: Callable[[int], Ints]) -> None:
        self.lengths, self.batch_size, self.micro_batch, self.draw = lengths, batch_size, micro_batch, draw
        self.steps_per_epoch = math.ceil(len(lengths) / batch_size)
        # The standard deviation of a Poisson draw is about the root of its mean.
        most = min(len(lengths), batch_size + 3 * math.sqrt(batch_size))
        self.micro_batches_per_step = math.ceil(most / micro_batch)

    def list_rows(self, step: int) -> Ints:
        """Returns all rows of a step, longest last."""
        rows = self.draw(step)
        return rows[np.argsort(self.lengths[rows], kind="stable")]

    def list_micro_batches(self, step: int) -> list[list[int]]:
        """Returns the micro-batches of a step, empty ones first."""
        rows = self.list_rows(step)
        # A draw beyond the fixed number of micro-batches makes each of them larger.
        size = max(self.micro_batch, math.ceil(len(rows) / self.micro_batches_per_step))
        cuts = [list(map(int, rows[i : i + size])) for i in range(0, len(rows), size)]
        return [[] for _ in range(self.micro_batches_per_step - len(cuts))] + cuts


def pair_mismatched(rows: Sequence[int], prompts: Sequence[Hashable], seed: Sequence[int]) -> dict[int, int]:
    """Draws for each row another row of the same step with another prompt; `prompts` are those of `rows`.

    Each row is drawn exactly once, unless one prompt has more than half of the rows: then the other rows are repeated
    in turn for them. Returns an empty dict if all rows share one prompt, or there is only one.
    """
    prompt = dict(zip(rows, prompts, strict=True))
    # Rows by prompt, in random order.
    alike: dict[Hashable, list[int]] = {}
    for row in np.random.default_rng([*seed, 1]).permutation(np.array(rows, dtype=np.int64)).tolist():
        alike.setdefault(prompt[row], []).append(row)
    most = max(alike.values(), key=len, default=[])
    rest = [row for group in alike.values() if group is not most for row in group]
    if len(most) > len(rest):
        # One prompt has more than half of the rows: repeat the other rows for it.
        return dict(zip(most, cycle(rest), strict=False)) | dict(zip(rest, most, strict=False)) if rest else {}
    # The groups are arranged in a circle. A shift by the size of the largest group leads out of every group, and not
    # around into the same group again.
    circle = [row for group in alike.values() for row in group]
    return dict(zip(circle, [*circle[len(most) :], *circle[: len(most)]], strict=True))
