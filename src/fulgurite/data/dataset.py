"""Training and validation rows: examples are cut, dropped and counted, split, weighted and packed.

Shapes: T tokens of a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fulgurite.data import preference_dataset as pairs
from fulgurite.data.answers import REASONING_LEFT_OUT
from fulgurite.data.config import Data, Packing, SpecialTokens, TooLong
from fulgurite.data.packing import pack_best_fit
from fulgurite.data.preference_dataset import PreferenceDataset
from fulgurite.data.report import DataReport, Reason, count_lengths
from fulgurite.data.template_dialect import CALLS_AS_TEXT, GREETING_LEFT_OUT, REASONING_AS_TEXT, SYSTEM_MOVED
from fulgurite.data.tokenized import MISSED, SPECIAL_INSIDE, STOP_INSIDE, TOO_LONG, TokenizedData
from fulgurite.errors import DataError
from fulgurite.language.message import UserMessage, message

IGNORE = -100
"""The target of a position that has no loss."""
LEAST_VALIDATION, MOST_VALIDATION = 20, 1000
Ints = npt.NDArray[np.int64]
WRITTEN_OTHERWISE = {
    CALLS_AS_TEXT: Reason(
        message("with calls or functions written as text, because the chat template does not support them")
    ),
    REASONING_AS_TEXT: Reason(
        message("with reasoning written as text before the answer, because the chat template does not support it")
    ),
    SYSTEM_MOVED: Reason(
        message(
            "with a system message moved to the beginning of the next question, because the chat template does not "
            "support its position"
        )
    ),
    GREETING_LEFT_OUT: Reason(
        message(
            "without the answer before the first question, because the chat template begins with a question"
        )
    ),
    REASONING_LEFT_OUT: Reason(
        message(
            "without the reasoning of an answer, or its words beside calls, because the chat template does not write "
            "them there"
        )
    ),
}
"""The meaning of the flags of examples."""
SPECIAL = {
    SpecialTokens.escape: Reason(
        message(
            "with the text of a special token, encoded as plain text (data.special_tokens=keep encodes it as the token)"
        )
    ),
    SpecialTokens.keep: Reason(
        message(
            "with the text of a special token, encoded as that token (data.special_tokens=escape encodes it as plain "
            "text)"
        )
    ),
}


@dataclass(frozen=True, slots=True)
class TokenRow:
    """`input_ids`, `targets` (the next token, or -100) and `position_ids` (from 0 in each document), int64 [T]."""

    input_ids: Ints
    targets: Ints
    position_ids: Ints


class TokenDataset:
    """Rows of tokenized examples. `pieces` [P, 3] are example, first token, last token (excluded); row i has those
    from `starts[i]` to `starts[i + 1]`. These are arrays, so that worker processes share them and ten million rows fit.
    """

    def __init__(self, encoded: TokenizedData, pieces: Ints, starts: Ints, packed: bool) -> None:
        self.encoded, self.pieces, self.starts, self.packed = encoded, pieces, starts, packed
        tokens = pieces[:, 2] - pieces[:, 1]
        labels = np.fromiter((encoded.labels(*map(int, p)) for p in pieces), dtype=np.int64, count=len(pieces))
        # reduceat sums from each start to the next: the pieces of a row in one call.
        self.lengths: Ints = np.add.reduceat(tokens, starts[:-1])
        self.label_counts: Ints = np.add.reduceat(labels, starts[:-1])
        self.units = self.label_counts
        """The weights in the mean over a step: the label tokens."""

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, i: int) -> TokenRow:
        parts = [self._document(*map(int, piece)) for piece in self._pieces(i)]
        ids, targets, positions = (np.concatenate(column) for column in zip(*parts, strict=True))
        return TokenRow(ids, targets, positions)

    def places(self, i: int) -> list[str]:
        """Returns the places of the examples of row i, as file:line."""
        return [str(self.encoded.place(int(n))) for n in self._pieces(i)[:, 0]]

    def take(self, numbers: Ints) -> TokenDataset:
        """Returns the rows of these numbers, in this order."""
        # Rows have different numbers of pieces, so the starts are counted again.
        parts = [self._pieces(int(i)) for i in numbers]
        starts = np.cumsum([0, *map(len, parts)], dtype=np.int64)
        return TokenDataset(self.encoded, np.concatenate(parts), starts, self.packed)

    def _pieces(self, i: int) -> Ints:
        return self.pieces[self.starts[i] : self.starts[i + 1]]

    def _document(self, example: int, begin: int, end: int) -> tuple[Ints, Ints, Ints]:
        ids, learn = self.encoded.tokens(example, begin, end)
        targets = np.full(len(ids), IGNORE, dtype=np.int64)
        # The target of a position is the next token; the last position has none.
        targets[:-1] = np.where(learn[1:], ids[1:], IGNORE)
        return ids, targets, np.arange(len(ids), dtype=np.int64)


AnyRows = TokenDataset | PreferenceDataset


def split_dataset(
    encoded: TokenizedData, config: Data, seed: int, max_length: int, packing: Packing
) -> tuple[AnyRows, AnyRows | None, DataReport]:
    """Returns training rows, validation rows or None, and the report. Raises DataError if nothing is left to train on.
    """
    source = encoded.source
    report, packing = _start_report(encoded, max_length), Packing(packing)
    if encoded.compares:
        _refuse_long(encoded, config, max_length)
        kept, cuts = pairs.select_kept(encoded, max_length, config.too_long == TooLong.truncate, report)
    else:
        kept, cuts = _select_kept(encoded, config, max_length, report), None
    # From here on a record is represented by its first row; the other rows are added again at the end.
    every, kept = kept, _find_first_rows(encoded, kept)
    _note_flags(encoded, report)
    # Validation files come after the training files, so their numbers are higher.
    from_val = encoded.arrays["files"][kept] >= len(source.train)
    given, pool = kept[from_val], kept[~from_val]
    # One generator for sampling, splitting and weighting: the result depends on the seed only.
    random = np.random.default_rng([seed, 1])
    pool = _draw_limited(encoded, pool, report, random)
    if config.max_samples is not None and len(pool) > config.max_samples:
        report.not_drawn += len(pool) - config.max_samples
        pool = np.sort(random.choice(pool, config.max_samples, replace=False))
    # Files that are given for validation replace the drawn share.
    val = given if source.val else _draw_validation(pool, config.val_fraction, random)
    if report.pairs_split:
        # KTO splits a pair into two examples of one prompt.
        val = _hold_out_both_answers(encoded, pool, val)
    if source.val and not len(val):
        raise DataError(
            "{path}: no example is left for validation; {report}.", path=source.val[0], report=report.describe()
        )
    # Both are sorted and unique, so the order of the training examples is that of the files.
    train = np.setdiff1d(pool, val, assume_unique=True)
    if not len(train):
        raise DataError(
            "{path}: no example is left for training; {report}.",
            path=source.files[0], report=report.describe() or message("the files are empty"),
        )
    seen = _apply_weights(encoded, train, source.weights, random)
    report.validation, report.trained, report.seen_an_epoch = len(val), len(np.unique(seen)), len(seen)
    report.not_weighted = len(train) - report.trained
    if cuts is not None:
        compared = PreferenceDataset(encoded, seen, cuts[seen])
        _measured(
            report,
            int(compared.tokens.sum()),
            int(compared.label_counts.sum()),
            len(compared),
            max_length * len(encoded.sides(int(seen[0]))),
        )
        return compared, PreferenceDataset(encoded, val, cuts[val]) if len(val) else None, report
    seen, val = _find_all_rows(encoded, every, seen), _find_all_rows(encoded, every, val)
    rows = _build_dataset(encoded, seen, max_length, packing, report)
    return rows, _build_dataset(encoded, val, max_length, packing, None) if len(val) else None, report


def _find_first_rows(encoded: TokenizedData, kept: Ints) -> Ints:
    """Returns the first kept row of each record: records are drawn, held out and weighted, whatever their number of
    rows."""
    if not encoded.splits:
        return kept
    # unique() returns the first index of each record, and both are ascending.
    return kept[np.unique(encoded.records[kept], return_index=True)[1]]


def _find_all_rows(encoded: TokenizedData, kept: Ints, first: Ints) -> Ints:
    """Returns all kept rows of the records whose first rows are given, in their order."""
    if not encoded.splits or not len(first):
        return first
    records = encoded.records
    # The rows of a record are adjacent in `kept`: two binary searches give their slice.
    begin = np.searchsorted(records[kept], records[first], side="left")
    end = np.searchsorted(records[kept], records[first], side="right")
    return np.concatenate([kept[a:b] for a, b in zip(begin.tolist(), end.tolist(), strict=True)])


def _note_flags(encoded: TokenizedData, report: DataReport) -> None:
    """Counts in the report what the chat template does not support, texts of special tokens, and the records with one
    row per answer."""
    flags, special = (
        np.asarray(encoded.arrays["flags"]),
        SPECIAL.get(SpecialTokens(encoded.source.config.special_tokens)),
    )
    for flag, what in (WRITTEN_OTHERWISE | ({SPECIAL_INSIDE: special} if special else {})).items():
        if count := len(np.unique(encoded.records[(flags & flag) > 0])):
            report.written_otherwise[what] = count
    if encoded.splits:
        # rows[r] is the number of rows of record r.
        rows = np.bincount(encoded.records)
        # The rows of the records that have more than one.
        several = (rows > 1)[encoded.records]
        report.split_records, report.split_rows = int((rows > 1).sum()), int(several.sum())
        report.split_tokens = int(encoded.lengths[several].sum())


def _measured(report: DataReport, tokens: int, labels: int, rows: int, most: int) -> None:
    report.tokens, report.label_tokens, report.rows_an_epoch = tokens, labels, rows
    report.label_share, report.fill = labels / tokens, tokens / (rows * most)


def _start_report(encoded: TokenizedData, max_length: int) -> DataReport:
    """Makes a report with the results of the check and the tokenizer."""
    source = encoded.source
    checked = source.checked or source.check()
    report = DataReport(
        source.format, [str(p) for p in source.files], checked.rows, checked.pairs, max_length=max_length,
        unread_fields=dict(checked.unread.most_common()), remarks=dict(checked.remarks.most_common()),
        lengths=count_lengths(encoded.lengths.tolist()),
    )
    for bad in checked.bad:
        reason = message("bad record, {field}: {reason}", field=bad.field, reason=bad.reason)
        report.drop(Reason(reason), str(bad.place))
    return report


def _select_kept(encoded: TokenizedData, config: Data, max_length: int, report: DataReport) -> Ints:
    """Returns the examples that data.too_long keeps and that have a label; adds the dropped ones to the report."""
    kept: list[int] = []
    dropped: list[tuple[int, Reason]] = []
    running, lengths = encoded.source.reads.running_text, encoded.lengths.tolist()
    if not running:
        _refuse_long(encoded, config, max_length)
    for number, length in enumerate(lengths):
        # Running text is never too long: it is cut into pieces later.
        too_long = not running and length > max_length
        if encoded.flagged(number, TOO_LONG):
            dropped.append((number, pairs.LONG))
        elif config.special_tokens == SpecialTokens.drop and encoded.flagged(number, SPECIAL_INSIDE):
            dropped.append((number, pairs.SPECIAL))
        elif encoded.flagged(number, STOP_INSIDE):
            dropped.append((number, pairs.END_TOKEN))
        elif too_long and config.too_long == TooLong.drop:
            dropped.append((number, pairs.LONG))
        # Only the tokens that a cut leaves count: the whole answer may be after it.
        elif encoded.labels(number, 0, min(length, max_length) if too_long else length) == 0:
            dropped.append((number, pairs.UNLEARNED))
        else:
            report.truncated += too_long
            report.answers_missed += encoded.flagged(number, MISSED)
            kept.append(number)
    _note_dropped(encoded, kept, dropped, report)
    report.truncated_share = report.truncated / max(len(kept), 1)
    return np.array(kept, dtype=np.int64)


def _note_dropped(
    encoded: TokenizedData, kept: list[int], dropped: list[tuple[int, Reason]], report: DataReport
) -> None:
    """Counts a record as dropped if no row of it is left; otherwise counts its answers that were left out."""
    records = encoded.records
    # Records with a kept row, and records that are already counted as dropped.
    there = set(records[kept].tolist())
    for number, reason in dropped:
        record = int(records[number])
        if record not in there:
            report.drop(reason, str(encoded.place(number)))
            there.add(record)
        elif encoded.splits:
            report.answers_left_out[reason] = report.answers_left_out.get(reason, 0) + 1


def _refuse_long(encoded: TokenizedData, config: Data, max_length: int) -> None:
    """Raises DataError if data.too_long=error and an example, or a side of one, is longer than data.max_length."""
    lengths = encoded.lengths.tolist()
    long = [n for n, length in enumerate(lengths) if length > max_length] if config.too_long == TooLong.error else []
    if long:
        more = message(" (and {count} more)", count=len(long) - 1) if len(long) > 1 else UserMessage()
        raise DataError(
            "{place}: the example has {tokens} tokens, more than data.max_length={most}{more}; raise it to {longest}, "
            "or set data.too_long=drop.",
            place=encoded.place(long[0]), tokens=lengths[long[0]], most=max_length, more=more,
            longest=max(lengths[n] for n in long),
        )


def _draw_validation(pool: Ints, fraction: float, random: np.random.Generator) -> Ints:
    """Draws a seeded share for validation: at least 20 and at most 1000 examples, but never more than half."""
    # Too few examples give a loss that is noise; more than 1000 only cost time.
    count = (
        min(max(round(fraction * len(pool)), LEAST_VALIDATION), MOST_VALIDATION, len(pool) // 2) if fraction > 0 else 0
    )
    return np.sort(random.choice(pool, count, replace=False)) if count else pool[:0]


def _hold_out_both_answers(encoded: TokenizedData, pool: Ints, val: Ints) -> Ints:
    """Adds the other answer of each pair with a held-out answer: its prompt must not be trained on.

    `val` becomes up to twice as large.
    """
    files, lines = (encoded.arrays[name].astype(np.int64) for name in ("files", "lines"))
    # The two halves of a pair have the same file and line: one number per record.
    record = files * (int(lines.max()) + 1) + lines
    return pool[np.isin(record[pool], record[val])]


def _draw_limited(encoded: TokenizedData, pool: Ints, report: DataReport, random: np.random.Generator) -> Ints:
    """Draws from each file as many examples as the num_samples of its entry. Raises DataError if it has fewer."""
    source = encoded.source
    for number, limit in enumerate(source.limits):
        if limit is None:
            continue
        mine = encoded.arrays["files"][pool] == number
        if limit > mine.sum():
            raise DataError(
                "{owner}: num_samples is {limit}, but {path} has {count} examples to train on; remove num_samples.",
                owner=source.forms[number].owner, limit=limit, path=source.train[number], count=int(mine.sum()),
            )
        report.not_drawn += int(mine.sum()) - limit
        # Sorted, so that the examples keep the order of the files.
        pool = np.sort(np.concatenate([pool[~mine], random.choice(pool[mine], limit, replace=False)]))
    return pool


def _apply_weights(encoded: TokenizedData, train: Ints, weights: Sequence[float], random: np.random.Generator) -> Ints:
    """Repeats the examples of each file by its weight: all of them as often as its integer part, and a seeded sample
    for the rest."""
    if not weights:
        return train
    files, seen = encoded.arrays["files"][train], []
    for number, weight in enumerate(weights):
        # A weight of 2.5 gives every example twice, and a random half a third time.
        mine, whole = train[files == number], int(weight)
        part = random.choice(mine, round((weight - whole) * len(mine)), replace=False) if len(mine) else mine
        seen += [mine] * whole + [np.sort(part)]
    drawn = np.concatenate(seen)
    if not len(drawn):
        raise DataError("data.weights leave no example for training; give at least one file a weight above 0.")
    return drawn


def _build_dataset(
    encoded: TokenizedData, numbers: Ints, max_length: int, packing: Packing, report: DataReport | None
) -> TokenDataset:
    lengths = encoded.lengths[numbers]
    if encoded.source.reads.running_text:
        pieces = _cut_pieces(numbers, lengths, max_length)
    else:
        # [P, 3]; an example that is longer than a row is cut at its end.
        pieces = np.stack([numbers, np.zeros_like(numbers), np.minimum(lengths, max_length)], axis=1)
    starts = np.arange(len(pieces) + 1, dtype=np.int64)
    count = len(pieces)
    if packing is Packing.best_fit:
        # Examples of a row keep their order in the files.
        bins = [sorted(row) for row in pack_best_fit((pieces[:, 2] - pieces[:, 1]).tolist(), max_length)]
        starts = np.cumsum([0, *map(len, bins)], dtype=np.int64)
        # The pieces in the order of their rows, so that each row is a slice of them.
        pieces = pieces[np.fromiter((i for row in bins for i in row), dtype=np.int64, count=count)]
    rows = TokenDataset(encoded, pieces, starts, packed=packing is Packing.best_fit)
    if report is not None:
        report.pieces, report.packing_gain = count - len(numbers), count / len(rows)
        _measured(report, int(rows.lengths.sum()), int(rows.label_counts.sum()), len(rows), max_length)
    return rows


def _cut_pieces(numbers: Ints, lengths: Ints, most: int) -> Ints:
    """Cuts documents to at most `most` tokens. A piece begins with the last token of the one before, so that every
    token is predicted once."""
    cuts = [
        (number, begin, min(begin + most, length))
        for number, length in zip(numbers.tolist(), lengths.tolist(), strict=True)
        # Steps of most - 1: the last token of a piece is a target there and the context of the next one.
        for begin in range(0, max(length - 1, 1), most - 1)
    ]
    return np.array(cuts, dtype=np.int64)
