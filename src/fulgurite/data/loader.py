"""Rows as padded micro-batches of tensors.

Shapes: B rows of a micro-batch, T tokens of its longest.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from fulgurite.data.dataset import IGNORE, AnyRows, TokenDataset
from fulgurite.data.documents import find_documents
from fulgurite.data.preference_dataset import PreferenceDataset, collate_mismatched, collate_preferences
from fulgurite.data.sampler import PoissonSampler, StepSampler, pair_mismatched
from fulgurite.data.unpadded import describe_unpadded


class Ahead(StrEnum):
    """The data of a whole step that a stage needs before its first loss: nothing, its rows, or its prompts with answers
    to other prompts."""

    nothing = "nothing"
    rows = "rows"
    mismatched = "mismatched"


@dataclass(slots=True)
class Cut:
    """The rows of a micro-batch; the weight of its whole step in the mean, and the label tokens of that step.

    The first one of a step has `ahead`, this process's micro-batches of the step; `step` are the rows of all processes.
    """

    rows: list[int]
    targets: int = 0
    labels: int = 0
    ahead: list[list[int]] | None = None
    step: list[int] | None = None
    seed: tuple[int, ...] = ()


def build_train_loader(
    rows: AnyRows,
    order: StepSampler | PoissonSampler,
    position: Callable[[], int],
    workers: int = 0,
    ahead: Ahead = Ahead.nothing,
    fill: bool = False,
) -> DataLoader[Any]:
    """Builds the loader of the micro-batches from step `position()` to the end of its epoch; its length is always that
    of a whole epoch.

    With `fill` an empty micro-batch is replaced by a filler: see `build_val_loader`.
    """
    sampler = FromPosition(rows, order, position, ahead)
    return DataLoader(
        _MicroBatches(rows, ahead, fill), batch_size=None, sampler=sampler, num_workers=workers,
        worker_init_fn=_leave_signals,
    )


def _leave_signals(worker: int) -> None:
    """Makes a worker process ignore the signals that stop a run; the main process handles them.

    A terminal and a job scheduler signal the whole process group. A worker that exits at once would make the current
    step fail, which should be finished and saved. A second SIGTERM ends the worker.
    """
    # The workers stop when the main process closes the loader.
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)

    def first(number: int, frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    signal.signal(signal.SIGTERM, first)


def build_val_loader(
    rows: AnyRows, micro_batch: int, processes: int = 1, rank: int = 0, ahead: Ahead = Ahead.nothing,
    fill: bool = False,
) -> DataLoader[Any]:
    """Builds the loader that reads every row once over all processes, rows of similar length together.

    Every process has as many batches, since the means are computed together; the last one of some may be empty.
    With `fill` it is replaced by a filler: the shortest row, marked with `filler`, which counts for nothing. A process
    of a sharded model (strategy=fsdp) must make as many passes as the others.
    """
    # Sorted by length, so that a micro-batch has little padding.
    ordered = [int(n) for n in np.argsort(rows.lengths, kind="stable")]
    batches = [ordered[i : i + micro_batch] for i in range(0, len(ordered), micro_batch)]
    mine = batches[rank::processes]
    # Lightning skips the evaluation of a process without a batch, and the others would wait for it.
    cuts = [Cut(numbers) for numbers in mine] + [Cut([])] * (-(-len(batches) // processes) - len(mine))
    if ahead is not Ahead.nothing and cuts:
        cuts[0].ahead, cuts[0].step = [cut.rows for cut in cuts], ordered
    return DataLoader(_MicroBatches(rows, ahead, fill), batch_size=None, sampler=cuts)


def collate_longest(rows: AnyRows, count: int, ahead: Ahead, seed: int) -> dict[str, Any]:
    """Makes the micro-batch of the `count` longest rows, as a step of its own: no training step is larger."""
    # Sorted back into the order of the rows, as a sampler lists them.
    numbers = np.sort(np.argsort(rows.lengths, kind="stable")[-count:])
    listed = [int(n) for n in numbers]
    cut = Cut(listed, int(rows.units[numbers].sum()), int(rows.label_counts[numbers].sum()))
    if ahead is not Ahead.nothing:
        cut.ahead, cut.step, cut.seed = [listed], listed, (seed, 0)
    # The largest case: no tokens are shared between the sides.
    return _MicroBatches(rows, ahead)[cut] | {"shared": 0}


class FromPosition(Sampler[Cut]):
    """The micro-batches of each optimizer step, from step `position()` to the end of its epoch."""

    def __init__(
        self, rows: AnyRows, order: StepSampler | PoissonSampler, position: Callable[[], int], ahead: Ahead
    ) -> None:
        self.rows, self.order, self.position, self.ahead = rows, order, position, ahead

    def __len__(self) -> int:
        return self.order.steps_per_epoch * self.order.micro_batches_per_step

    def __iter__(self) -> Iterator[Cut]:
        first = self.position()
        # A resumed run begins inside an epoch and ends with it.
        end = (first // self.order.steps_per_epoch + 1) * self.order.steps_per_epoch
        for step in range(first, end):
            whole = self.order.list_rows(step)
            # Counted over the rows of all processes: every micro-batch carries the divisor of its whole step.
            targets, labels = int(self.rows.units[whole].sum()), int(self.rows.label_counts[whole].sum())
            mine = self.order.list_micro_batches(step)
            cuts = [Cut(numbers, targets, labels) for numbers in mine]
            if self.ahead is not Ahead.nothing and isinstance(self.order, StepSampler):
                cuts[0].ahead, cuts[0].step, cuts[0].seed = mine, list(map(int, whole)), (self.order.seed, step)
            yield from cuts


class _MicroBatches(Dataset[Any]):
    def __init__(self, rows: AnyRows, ahead: Ahead, fill: bool = False) -> None:
        self.rows, self.ahead = rows, ahead
        self.filler = int(np.argmin(rows.lengths)) if fill else None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, cut: Cut) -> dict[str, Any]:
        if self.filler is not None and not cut.rows:
            # The model computes the filler, but it counts as no row and no token.
            return self[replace(cut, rows=[self.filler])] | {"rows": [], "tokens": 0, "filler": True}
        if not isinstance(self.rows, PreferenceDataset):
            return collate(self.rows, cut.rows, cut.targets)
        batch = collate_preferences(self.rows, cut.rows) | {"step_targets": cut.targets, "step_labels": cut.labels}
        if cut.ahead is None or cut.step is None:
            return batch
        return batch | {"ahead": list(self._ahead(self.rows, cut, cut.ahead, cut.step)), "step_rows": cut.step}

    def _ahead(
        self, rows: PreferenceDataset, cut: Cut, mine: list[list[int]], step: list[int]
    ) -> Iterator[dict[str, Any]]:
        # Drawn over the rows of all processes, so that the pairs do not depend on the number of processes.
        partner = (
            pair_mismatched(step, [rows.prompt(n) for n in step], cut.seed) if self.ahead is Ahead.mismatched else None
        )
        most = int(rows.lengths.max())
        for numbers in mine:
            used = numbers or [n for n in [self.filler] if n is not None]
            if not used or partner == {}:
                continue
            # Without a partner the stage needs the rows themselves. A filler is its own partner.
            if partner is None:
                part = collate_preferences(rows, used)
            else:
                part = collate_mismatched(rows, [(n, partner.get(n, n)) for n in used], most)
            yield part if numbers else part | {"rows": [], "filler": True}


def collate(rows: TokenDataset, numbers: Sequence[int], step_targets: int) -> dict[str, Any]:
    """Makes the batch: `input_ids`, `targets` [B, T] right-padded, `lengths` [B], and for packed rows `position_ids`
    and their `documents`. `label_positions` are those of the targets among all B·T tokens, `units` is their number:
    counted here, because the device would have to be waited for. `unpadded` are the tokens without the padding, if
    there is enough of it.

    There is no attention mask: with causal attention no real token attends to the padding on its right, and packed
    examples are separated by positions that start again at 0 (transformers uses them if there is no mask).
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
        # Positions that start again make the padding one more document.
        positions[i, n:] = torch.arange(longest - n)
    batch = {"input_ids": ids, "targets": targets, "step_targets": step_targets, "rows": list(numbers)}
    labels = (targets != IGNORE).flatten().nonzero()[:, 0]
    batch["label_positions"], batch["units"] = labels, len(labels)
    batch["tokens"] = sum(len(p.input_ids) for p in parts)
    lengths = [len(p.input_ids) for p in parts]
    batch["lengths"] = torch.tensor(lengths, dtype=torch.int64)
    batch |= describe_unpadded(lengths, longest, positions if rows.packed else None)
    return batch | {"position_ids": positions, "documents": find_documents(positions)} if rows.packed else batch
