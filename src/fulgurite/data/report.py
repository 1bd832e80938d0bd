"""The data report: how many records were trained on, validated with, cut or dropped, and why. Written to
data_report.json."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

from fulgurite.language.current import get_language
from fulgurite.language.message import UserMessage, get_english, message

PLACES = 10_000
"""How many places are listed for one reason; all are counted."""
SEPARATORS = {("zh", ", "): "，", ("zh", "; "): "；"}


class Reason(str):
    """A sentence that is also a key of data_report.json: the string is its English, `str()` and f-strings show it in
    the language in use."""

    sentence: UserMessage

    def __new__(cls, sentence: UserMessage) -> Reason:
        made = super().__new__(cls, get_english(sentence))
        made.sentence = sentence
        return made

    def __getnewargs__(self) -> tuple[UserMessage]:  # type: ignore[override]
        return (self.sentence,)

    def __str__(self) -> str:
        return str(self.sentence)

    def __format__(self, spec: str) -> str:
        return format(str(self.sentence), spec)


@dataclass(frozen=True, slots=True)
class Phrases:
    """Phrases that are shown one after the other, with the punctuation of the language in use."""

    parts: tuple[object, ...]
    separator: str = ", "

    def __str__(self) -> str:
        return SEPARATORS.get((get_language(), self.separator), self.separator).join(map(str, self.parts))


@dataclass(slots=True)
class Dropped:
    """How many records were dropped for one reason, and their places."""

    count: int = 0
    places: list[str] = field(default_factory=list)


@dataclass(slots=True)
class DataReport:
    """rows_in = trained + validation + not_drawn + not_weighted + the dropped of all reasons."""

    format: str
    files: list[str]
    rows_in: int = 0
    pairs_split: int = 0
    """Pairs that stage=kto split into a good answer and a bad one; both are counted in rows_in."""
    trained: int = 0
    validation: int = 0
    not_drawn: int = 0
    """Records left out by data.max_samples."""
    not_weighted: int = 0
    """Records left out by a weight below 1 in data.weights."""
    dropped: dict[str, Dropped] = field(default_factory=dict)
    unread_fields: dict[str, int] = field(default_factory=dict)
    """Fields that are not used, and the number of records that have them."""
    remarks: dict[str, int] = field(default_factory=dict)
    """Changes made while reading, such as two turns in a row joined into one, and the number of records."""
    truncated: int = 0
    truncated_share: float = 0.0
    answers_missed: int = 0
    """Conversations with an earlier answer that is not learned, because the tokens of its prompt would differ at
    inference."""
    split_records: int = 0
    """Conversations with one row per answer, because the chat template renders earlier turns differently once later
    ones follow."""
    split_rows: int = 0
    """The rows that were made of them."""
    split_tokens: int = 0
    """The tokens of those rows."""
    answers_left_out: dict[str, int] = field(default_factory=dict)
    """Answers of such conversations that were left out, by reason, if another answer of the same conversation was
    kept."""
    written_otherwise: dict[str, int] = field(default_factory=dict)
    """Parts of a record that the chat template does not support, how they were rendered, and the number of records."""
    pieces: int = 0
    """Additional pieces from long documents of running text: all pieces less the number of documents."""
    seen_an_epoch: int = 0
    """Examples seen in one epoch, after data.weights."""
    rows_an_epoch: int = 0
    """Rows in one epoch, after packing."""
    packing_gain: float = 1.0
    """Examples and pieces per row: the factor by which packing reduces the number of rows."""
    fill: float = 1.0
    """The share of data.max_length that an average row fills."""
    tokens: int = 0
    label_tokens: int = 0
    label_share: float = 0.0
    max_length: int = 0
    lengths: dict[str, int] = field(default_factory=dict)
    """Histogram of the examples' lengths in tokens, by powers of two."""

    def drop(self, reason: Reason, place: str) -> None:
        """Counts a dropped record."""
        # All are counted, but the file lists a limited number of places.
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
        """Returns the content of data_report.json."""
        body = asdict(self) | {"dropped_by_reason": {reason: d.count for reason, d in self.dropped.items()}}
        return json.dumps(body, indent=1, ensure_ascii=False) + "\n"

    def describe(self) -> UserMessage:
        """Returns what was dropped, cut or not read, in one sentence; an empty one if nothing was."""
        parts = [*self._describe_records(), *self._describe_answers()]
        parts += [
            message("{count:,} with {remark}", count=count, remark=remark) for remark, count in self.remarks.items()
        ]
        if self.unread_fields:
            parts.append(message("fields not read: {names}", names=join_names(list(self.unread_fields))))
        if not parts:
            return UserMessage()
        return message("{count:,} records: {parts}", count=self.rows_in, parts=Phrases(tuple(parts)))

    def _describe_records(self) -> list[UserMessage]:
        parts = [
            message(
                "{count:,} dropped ({reason}; the first at {place})", count=d.count, reason=reason, place=d.places[0]
            )
            for reason, d in self.dropped.items()
        ]
        if self.pairs_split:
            parts.append(
                message("made of {count:,} pairs, each split into a good and a bad answer", count=self.pairs_split)
            )
        if self.truncated:
            parts.append(message("{count:,} truncated to {most} tokens", count=self.truncated, most=self.max_length))
        if self.not_drawn:
            parts.append(message("{count:,} not drawn (data.max_samples or num_samples)", count=self.not_drawn))
        if self.not_weighted:
            parts.append(message("{count:,} left out by data.weights", count=self.not_weighted))
        if self.pieces:
            parts.append(
                message(
                    "{count:,} more pieces from documents cut at {most} tokens", count=self.pieces, most=self.max_length
                )
            )
        return parts

    def _describe_answers(self) -> list[UserMessage]:
        parts = []
        if self.answers_missed:
            parts.append(
                message(
                    "{count:,} with an earlier answer whose tokens would differ at inference", count=self.answers_missed
                )
            )
        parts += [
            message("{count:,} {change}", count=count, change=change)
            for change, count in self.written_otherwise.items()
        ]
        if self.split_records:
            parts.append(
                message(
                    "{records:,} conversations give {rows:,} rows ({tokens:,} tokens), one for each answer, because "
                    "the chat template renders earlier turns differently once later ones follow (data.mask=last "
                    "learns the last answers only)",
                    records=self.split_records, rows=self.split_rows, tokens=self.split_tokens,
                )
            )
        parts += [
            message("{count:,} of their answers left out ({reason})", count=count, reason=reason)
            for reason, count in self.answers_left_out.items()
        ]
        return parts


def join_names(names: list[str], most: int = 20) -> UserMessage:
    """Returns the first names, and how many more there are."""
    shown = ", ".join(names[:most])
    if len(names) > most:
        return message("{names} and {count:,} more", names=shown, count=len(names) - most)
    return UserMessage("{names}", {"names": shown})


def count_lengths(lengths: Iterable[int]) -> dict[str, int]:
    """Counts the lengths up to each power of two from 32."""
    # 1 << (n - 1).bit_length() is the smallest power of two that is at least n.
    tops = Counter(max(32, 1 << int(n - 1).bit_length()) for n in lengths if n > 0)
    return {str(top): tops[top] for top in sorted(tops)}
