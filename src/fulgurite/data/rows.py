"""Rows that are trained on: cut, dropped and counted, split into training and validation, weighted, packed.

Shapes: T tokens of a row.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fulgurite.data.config import Data, Packing, TooLong
from fulgurite.data.encode import Encoded
from fulgurite.data.packing import best_fit
from fulgurite.errors import DataError

IGNORE = -100
"""The target of a position that is not learned."""
LEAST_VALIDATION, MOST_VALIDATION = 20, 1000
Ints = npt.NDArray[np.int64]
Span = tuple[int, int, int]
"""An example's number, and the first and last token taken of it (the last excluded)."""


@dataclass(frozen=True, slots=True)
class Row:
    """`input_ids`, `targets` (the next token, or -100) and `position_ids` (from 0 in each document), int64 [T]."""

    input_ids: Ints
    targets: Ints
    position_ids: Ints


class Rows:
    """Rows over tokenised examples; a packed row has several spans."""

    def __init__(self, encoded: Encoded, spans: Sequence[Sequence[Span]], packed: bool) -> None:
        self.encoded, self.spans, self.packed = encoded, spans, packed
        self.lengths: Ints = np.array([sum(e - b for _, b, e in row) for row in spans], dtype=np.int64)
        self.label_counts: Ints = np.array([sum(_labels(encoded, s) for s in row) for row in spans], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.spans)

    def __getitem__(self, i: int) -> Row:
        parts = [_document(self.encoded, span) for span in self.spans[i]]
        ids, targets, positions = (np.concatenate(column) for column in zip(*parts, strict=True))
        return Row(ids, targets, positions)

    def places(self, i: int) -> list[str]:
        """Where the examples of row i stand, as file:line."""
        return [str(self.encoded.place(n)) for n, _, _ in self.spans[i]]


def _document(encoded: Encoded, span: Span) -> tuple[Ints, Ints, Ints]:
    number, begin, end = span
    ids, learn = encoded.example(number)
    ids, learn = ids[begin:end], learn[begin:end]
    targets = np.full(len(ids), IGNORE, dtype=np.int64)
    targets[:-1] = np.where(learn[1:], ids[1:], IGNORE)
    return ids, targets, np.arange(len(ids), dtype=np.int64)


def _labels(encoded: Encoded, span: Span) -> int:
    _, learn = encoded.example(span[0])
    return int(learn[span[1] + 1 : span[2]].sum())


@dataclass(slots=True)
class Report:
    """What became of every record: rows_in = trained + validation + not_drawn + the dropped of all reasons."""

    format: str
    files: list[str]
    rows_in: int
    trained: int = 0
    validation: int = 0
    not_drawn: int = 0
    dropped: dict[str, list[str]] = field(default_factory=dict)
    truncated: int = 0
    pieces: int = 0
    """Rows that long documents of running text were cut into, beyond their own number."""
    seen_an_epoch: int = 0
    """Examples seen in one epoch, after data.weights."""
    rows_an_epoch: int = 0
    """Rows in one epoch, after packing."""
    tokens: int = 0
    label_tokens: int = 0
    max_length: int = 0
    lengths: dict[str, int] = field(default_factory=dict)
    """How many examples have up to so many tokens: the histogram in powers of two."""

    def write(self, path: Path) -> None:
        """Write data_report.json."""
        body = asdict(self) | {"dropped_by_reason": {reason: len(places) for reason, places in self.dropped.items()}}
        path.write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    def sentence(self) -> str:
        """What was left out, in words; empty where nothing was."""
        parts = [f"{len(places)} dropped ({reason})" for reason, places in self.dropped.items()]
        parts += [f"{self.truncated} truncated to {self.max_length} tokens"] if self.truncated else []
        parts += [f"{self.not_drawn} not drawn (data.max_samples)"] if self.not_drawn else []
        parts += [f"{self.pieces} more rows from documents cut at {self.max_length} tokens"] if self.pieces else []
        return f"{self.rows_in} records: {', '.join(parts)}" if parts else ""


def split(encoded: Encoded, config: Data, seed: int, max_length: int, packing: Packing) -> tuple[Rows, Rows | None, Report]:
    """Training rows, validation rows or None, and the report. Raises DataError where nothing is left to train on."""
    source = encoded.source
    report = Report(str(source.format), [str(p) for p in source.files], source.checked.rows, max_length=max_length)
    for bad in source.checked.bad:
        report.dropped.setdefault(f"bad {bad.field}: {bad.reason}", []).append(str(bad.place))
    report.lengths = histogram(encoded.lengths)
    kept = _kept(encoded, config, max_length, report)
    given = [n for n in kept if encoded.file(n) >= len(source.train)]
    pool = [n for n in kept if encoded.file(n) < len(source.train)]
    random = np.random.default_rng([seed, 1])
    if config.max_samples is not None and len(pool) > config.max_samples:
        report.not_drawn = len(pool) - config.max_samples
        pool = sorted(int(n) for n in random.choice(pool, config.max_samples, replace=False))
    val = given or _held_out(pool, config.val_fraction, random)
    held = set(val)
    train = [n for n in pool if n not in held]
    if not train:
        raise DataError(f"{source.files[0]}: no example is left to train on; {report.sentence() or 'the files are empty'}.")
    report.trained, report.validation = len(train), len(val)
    seen = _weighted(encoded, train, getattr(config, "weights", []), random)
    report.seen_an_epoch = len(seen)
    rows = _rows(encoded, seen, max_length, packing, report)
    report.rows_an_epoch, report.tokens, report.label_tokens = len(rows), int(rows.lengths.sum()), int(rows.label_counts.sum())
    return rows, _rows(encoded, val, max_length, packing, None) if val else None, report


def histogram(lengths: Ints) -> dict[str, int]:
    """Counts of lengths up to each power of two from 32."""
    tops = Counter(max(32, 1 << int(n - 1).bit_length()) for n in lengths.tolist() if n > 0)
    return {str(top): tops[top] for top in sorted(tops)}


def _kept(encoded: Encoded, config: Data, max_length: int, report: Report) -> list[int]:
    """The examples that stay after data.too_long, and those with a label; what is dropped is noted with its place."""
    kept = []
    running = encoded.source.stage == "pt"
    for number, length in enumerate(encoded.lengths.tolist()):
        if length > max_length and not running:
            if config.too_long is TooLong.error:
                raise DataError(f"{encoded.place(number)}: {length} tokens, more than data.max_length={max_length}; raise it, or data.too_long=drop.")
            if config.too_long is TooLong.drop:
                report.dropped.setdefault("longer than data.max_length", []).append(str(encoded.place(number)))
                continue
        if _labels(encoded, (number, 0, length if running else min(length, max_length))) == 0:
            report.dropped.setdefault("no token to learn", []).append(str(encoded.place(number)))
            continue
        report.truncated += int(length > max_length and not running)
        kept.append(number)
    return kept


def _held_out(pool: list[int], fraction: float, random: np.random.Generator) -> list[int]:
    if fraction == 0 or len(pool) < 2:
        return []
    count = min(max(round(fraction * len(pool)), LEAST_VALIDATION), MOST_VALIDATION, len(pool) // 2)
    return sorted(int(n) for n in random.choice(pool, count, replace=False))


def _weighted(encoded: Encoded, train: list[int], weights: Sequence[float], random: np.random.Generator) -> list[int]:
    """Each file's examples as often as its weight says: whole times all, and a seeded part for the rest."""
    if not weights:
        return train
    seen: list[int] = []
    for number, weight in enumerate(weights):
        mine = [n for n in train if encoded.file(n) == number]
        rest = round((weight - int(weight)) * len(mine))
        seen += mine * int(weight) + sorted(int(n) for n in random.choice(mine, rest, replace=False)) if mine else []
    if not seen:
        raise DataError("data.weights leave nothing to train on; give at least one file a weight above 0.")
    return seen


def _rows(encoded: Encoded, numbers: Sequence[int], max_length: int, packing: Packing, report: Report | None) -> Rows:
    lengths = encoded.lengths
    spans: list[Span] = []
    for n in numbers:
        whole = int(lengths[n])
        if encoded.source.stage == "pt":
            # A piece begins with the last token of the one before, so that no token's prediction is lost at a cut.
            starts = range(0, max(whole - 1, 1), max_length - 1)
            spans += [(n, b, min(b + max_length, whole)) for b in starts]
            if report is not None:
                report.pieces += len(starts) - 1
        else:
            spans.append((n, 0, min(whole, max_length)))
    if packing is Packing.none:
        return Rows(encoded, [[s] for s in spans], packed=False)
    bins = best_fit([e - b for _, b, e in spans], max_length)
    return Rows(encoded, [[spans[i] for i in sorted(row)] for row in bins], packed=True)
