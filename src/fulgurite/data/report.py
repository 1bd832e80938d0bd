"""What became of every record: data_report.json."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

PLACES = 10_000
"""How many places are listed for one reason; all are counted."""


@dataclass(slots=True)
class Dropped:
    """How many records were dropped for one reason, and where they stand."""

    count: int = 0
    places: list[str] = field(default_factory=list)


@dataclass(slots=True)
class DataReport:
    """rows_in = trained + validation + not_drawn + not_weighted + the dropped of all reasons."""

    format: str
    files: list[str]
    rows_in: int = 0
    pairs_split: int = 0
    """Pairs that stage=kto took for one good answer and one bad; both are counted in rows_in."""
    trained: int = 0
    validation: int = 0
    not_drawn: int = 0
    """Records left out by data.max_samples."""
    not_weighted: int = 0
    """Records left out by a weight below 1 in data.weights."""
    dropped: dict[str, Dropped] = field(default_factory=dict)
    unread_fields: dict[str, int] = field(default_factory=dict)
    """Fields that nothing is made of, and in how many records they stand."""
    remarks: dict[str, int] = field(default_factory=dict)
    """What was read otherwise than it is written, such as two turns in a row joined into one, and in how many records.
    """
    truncated: int = 0
    truncated_share: float = 0.0
    answers_missed: int = 0
    """Conversations of which an earlier answer is not learned, because its prompt's tokens would differ at inference.
    """
    split_records: int = 0
    """Conversations with a row for each answer, because the chat template writes earlier turns otherwise once later
    ones follow.
    """
    split_rows: int = 0
    """The rows that were made of them."""
    split_tokens: int = 0
    """The tokens of those rows."""
    answers_left_out: dict[str, int] = field(default_factory=dict)
    """Answers of such conversations that were left out, by reason, where another answer of the same conversation was
    not.
    """
    written_otherwise: dict[str, int] = field(default_factory=dict)
    """What the chat template has no place for, how it was written, and in how many records."""
    pieces: int = 0
    """Pieces that long documents of running text were cut into, beyond their own number."""
    seen_an_epoch: int = 0
    """Examples seen in one epoch, after data.weights."""
    rows_an_epoch: int = 0
    """Rows in one epoch, after packing."""
    packing_gain: float = 1.0
    """Examples and pieces a row: how many times fewer rows packing makes."""
    fill: float = 1.0
    """The share of data.max_length that an average row has filled."""
    tokens: int = 0
    label_tokens: int = 0
    label_share: float = 0.0
    max_length: int = 0
    lengths: dict[str, int] = field(default_factory=dict)
    """How many examples have up to so many tokens: the histogram in powers of two."""

    def drop(self, reason: str, place: str) -> None:
        """Count a dropped record."""
        entry = self.dropped.setdefault(reason, Dropped())
        entry.count += 1
        if len(entry.places) < PLACES:
            entry.places.append(place)

    @property
    def balanced(self) -> bool:
        """Whether every record is accounted for."""
        gone = sum(d.count for d in self.dropped.values())
        return self.rows_in == self.trained + self.validation + self.not_drawn + self.not_weighted + gone

    def text(self) -> str:
        """data_report.json."""
        body = asdict(self) | {"dropped_by_reason": {reason: d.count for reason, d in self.dropped.items()}}
        return json.dumps(body, indent=1, ensure_ascii=False) + "\n"

    def describe(self) -> str:
        """What was left out, cut or unread, in words; empty where nothing was."""
        parts = [f"{d.count:,} dropped ({reason}; the first at {d.places[0]})" for reason, d in self.dropped.items()]
        parts += [f"made of {self.pairs_split:,} pairs, a good answer and a bad one each"] if self.pairs_split else []
        parts += [f"{self.truncated:,} truncated to {self.max_length} tokens"] if self.truncated else []
        parts += [f"{self.not_drawn:,} not drawn (data.max_samples)"] if self.not_drawn else []
        parts += [f"{self.not_weighted:,} left out by data.weights"] if self.not_weighted else []
        parts += (
            [f"{self.answers_missed:,} with an earlier answer whose tokens would differ at inference"]
            if self.answers_missed
            else []
        )
        parts += [f"{count:,} {what}" for what, count in self.written_otherwise.items()]
        if self.split_records:
            parts.append(
                f"{self.split_records:,} conversations are {self.split_rows:,} rows ({self.split_tokens:,} tokens), "
                "one for each answer, "
                "as the chat template writes earlier turns otherwise once later ones follow (data.mask=last learns "
                "the last answers alone)"
            )
        parts += [f"{count:,} answers of them left out ({reason})" for reason, count in self.answers_left_out.items()]
        parts += [f"{self.pieces:,} more pieces from documents cut at {self.max_length} tokens"] if self.pieces else []
        parts += [f"{count:,} with {remark}" for remark, count in self.remarks.items()]
        parts += [f"fields not read: {join_names(list(self.unread_fields))}"] if self.unread_fields else []
        return f"{self.rows_in:,} records: {', '.join(parts)}" if parts else ""


def join_names(names: list[str], most: int = 20) -> str:
    """The first names in words, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def count_lengths(lengths: Iterable[int]) -> dict[str, int]:
    """Counts of lengths up to each power of two from 32."""
    tops = Counter(max(32, 1 << int(n - 1).bit_length()) for n in lengths if n > 0)
    return {str(top): tops[top] for top in sorted(tops)}
