"""A dataset as a stream of examples. Every record is checked before a model is loaded."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from fulgurite.data import formats
from fulgurite.data import preference_format as compared
from fulgurite.data import readers as read
from fulgurite.data.config import Data, Format
from fulgurite.data.example import Bad, Example, Place, shorten
from fulgurite.data.fields import Fields, Reading, Wrong, has_column, rename_keys
from fulgurite.data.file_form import FileForm
from fulgurite.data.files import guess_kind
from fulgurite.data.fingerprint import Fingerprint
from fulgurite.data.messages import TURN_KEYS
from fulgurite.data.reads import CHAT, reads_of
from fulgurite.data.report import Phrases, Reason
from fulgurite.data.suggest import describe_record, explain_record, format_override, suggest_columns
from fulgurite.errors import DataError, suggest_similar
from fulgurite.language.message import UserMessage, message

HOLDS = {
    Format.prompts: message("prompts without answers"),
    Format.text: message("running text"),
    Format.preference: message("pairs of answers (preference)"),
    Format.kto: message("answers with a label (kto)"),
    **{format: message("conversations ({format})", format=str(format)) for format in sorted(CHAT)},
}
"""The content of a file of each format."""
STAGE = {
    Format.text: "pt",
    Format.prompts: "grpo",
    Format.preference: "dpo",
    Format.kto: "kto",
    **dict.fromkeys(CHAT, "sft"),
}
MOST_FIELDS, OTHERS = 1000, "(other fields)"
"""Number of unread fields that are counted by name: a record may have 100,000 of its own."""
LOOK = 20
"""Number of records that are read to detect a format."""


@dataclass(slots=True)
class Checked:
    """The result of one pass over the data.

    `unread` counts the records that have an unused field, `remarks` those that were changed while reading. If KTO
    splits a pair, both halves count as records; `pairs` is the number of such pairs.
    """

    rows: int = 0
    pairs: int = 0
    good: int = 0
    bad: list[Bad] = field(default_factory=list)
    unread: Counter[str] = field(default_factory=Counter)
    seal: Fingerprint = field(default_factory=Fingerprint)
    """A hash of the records, with which later passes are compared."""
    remarks: Counter[Reason] = field(default_factory=Counter)

    def count_unread(self, names: Iterable[str]) -> None:
        """Counts the unread fields of a record by their shortened names; beyond MOST_FIELDS names all are one entry."""
        # Sorted, because the names are a set: which of them are counted by name must not change between passes.
        for name in sorted(shorten(name) or "''" for name in names):
            self.unread[name if name in self.unread or len(self.unread) < MOST_FIELDS else OTHERS] += 1

    def describe(self, source: Source) -> UserMessage:
        """Returns the result in one line."""
        parts = [
            message(
                "{count:,} records in {files} file(s), format {format}",
                count=self.rows, files=len(source.files), format=source.format,
            )
        ]
        if self.pairs:
            parts.append(message("they are {count:,} pairs, each split into a good and a bad answer", count=self.pairs))
        if self.bad:
            parts.append(message("{count} bad ones are left out", count=len(self.bad)))
        parts += [_count_records(remark, count) for remark, count in self.remarks.most_common()]
        if self.unread:
            fields = Phrases(tuple(_count_records(name, count) for name, count in self.unread.most_common(5)))
            more = len(self.unread) - 5
            unread = message("{fields} and {count} more", fields=fields, count=more) if more > 0 else fields
            parts.append(message("not read: {fields}", fields=unread))
        return UserMessage("{parts}", {"parts": Phrases(tuple(parts), "; ")})


def _count_records(what: str, count: int) -> UserMessage:
    return message("{what} (in {count})", what=what, count=count)


class Source:
    """Files in known formats. `train` and `val` are their paths; `val` is empty if a share is split off instead.

    `weights` has one number per training file, or is empty. Raises DataError if a format is unknown, or the stage does
    not read it.
    """

    def __init__(
        self, config: Data, stage: str, train: list[Path], val: list[Path], forms: Sequence[FileForm],
        weights: list[float] | None = None,
    ) -> None:
        self.config, self.stage, self.weights = config, stage, weights or []
        self.reads = reads_of(stage)
        self.train, self.val, self.forms = train, val, forms
        self.is_registered = any(form.is_closed for form in forms)
        # every file has the same form, unless a registry gives each its own
        common = FileForm() if self.is_registered or not forms else forms[0]
        self.columns, self.turn_keys, self.roles = common.columns, common.turn_keys, common.roles
        known = sorted(formats.COLUMNS)
        for name in (*self.columns, *self.turn_keys):
            if name not in known:
                raise DataError(
                    "data.columns: no format has a field {name}.{hint} The fields are {known}.",
                    name=name, hint=suggest_similar(name, known), known=", ".join(known),
                )
        self.formats = [
            form.format if form.format is not Format.auto else self._detected(path)
            for path, form in zip(self.files, forms, strict=True)
        ]
        self.checked: Checked | None = None
        for path, found in zip(self.files, self.formats, strict=True):
            self._fits(path, found)

    @property
    def files(self) -> list[Path]:
        """Training files, then validation files; `Example.file` counts in this order."""
        return [*self.train, *self.val]

    @property
    def limits(self) -> list[int | None]:
        """The number of examples to draw from each training file; None for all of it."""
        return [form.limit for form in self.forms[: len(self.train)]]

    @property
    def format(self) -> str:
        """The format of the files; several formats are separated by commas."""
        return ", ".join(dict.fromkeys(str(f) for f in self.formats))

    def examples(self) -> Iterator[Example | Bad]:
        """Yields every record as an example (two for a pair in KTO), or as a Bad. Every pass yields the same."""
        for number in range(len(self.files)):
            for example, _ in self.read_file(number):
                yield from self._halves(example)

    def read_as_prompts(self) -> Source:
        """Returns the same files read as a stage reads them that generates the answers: each example ends with its last
        question, and has the given answer and the other columns in `columns`."""
        # A shallow copy shares the files, their formats and the result of the check; only `reads` differs.
        other = copy.copy(self)
        other.reads = replace(self.reads, prompts=True)
        return other

    def check(self) -> Checked:
        """Reads every record once.

        Raises DataError if more than `data.max_drop` are bad, none is good, or a file has no record.
        """
        found, bad = Checked(), 0
        for number, path in enumerate(self.files):
            before = found.rows
            for example, reading in self.read_file(number):
                for half in self._halves(example):
                    found.seal.add(half)
                halves = len(self._halves(example))
                # A pair that KTO splits counts as two records.
                found.rows += halves
                found.pairs += halves > 1
                if isinstance(example, Bad):
                    bad += 1
                    # Bad records that are allowed are kept for the report; the first one is always kept, for the error.
                    if bad <= max(self.config.max_drop, 1):
                        found.bad.append(example)
                else:
                    found.good += halves
                    found.count_unread(reading.unread)
                    found.remarks.update(reading.remarks)
            # An empty file among others would otherwise go unnoticed.
            if found.rows == before:
                raise DataError(
                    "{path}:1: field 'record': the file has no record; leave it out, or give a file with examples.",
                    path=path,
                )
        if found.good == 0:
            raise DataError(self._describe_all_bad(found.bad[0], bad))
        if bad > self.config.max_drop:
            more = message(" (and {count} more bad records)", count=bad - 1) if bad > 1 else UserMessage()
            raise DataError(
                "{first}{more}; correct the data, or leave bad records out with data.max_drop={count}.",
                first=found.bad[0], more=more, count=bad,
            )
        self.checked = found
        return found

    def _describe_all_bad(self, first: Bad, count: int) -> UserMessage:
        """Returns the error for data without a good record: its fields, the format it was read as, and the remedy."""
        # Describe the data by the records of the file with the first bad one.
        number = next((n for n, path in enumerate(self.files) if str(path) == first.place.file), 0)
        sample = self._sample(self.files[number])
        every = message("the only record is bad")
        if count > 1:
            every = message("all {count:,} records are bad", count=count)
        if not sample:
            if count > 1:
                return message("{first}; all {count:,} records are bad.", first=first, count=count)
            return message("{first}; the only record is bad.", first=first)
        # The registry names the columns of its files, so data.columns cannot correct them.
        columns = None if self.is_registered else suggest_columns(sample, self.reads, self._is_read, guess=False)
        if self.is_registered:
            remedy = message("correct the data, or the columns of {owner}", owner=self.forms[number].owner)
        elif columns is not None and columns != self.columns:
            remedy = message("leave data.columns out")
            if columns:
                remedy = message("try {override}", override=format_override(columns))
        elif "[" in first.field:  # the field was found, but a part of it is wrong
            remedy = message("correct them")
        else:
            remedy = message("correct them, or name their fields with {override}", override=self._wanted_columns())
        return message(
            "{first}; {every}. The first record is {record}, read as {format} (stage={stage} reads {expected}); "
            "{remedy}.",
            first=first, every=every, record=describe_record(sample[0]), format=self.format, stage=self.stage,
            expected=", ".join(sorted(self.reads.formats)), remedy=remedy,
        )

    def _sample(self, path: Path) -> list[Any]:
        return [raw[1] for raw in islice(read.read_records(path), LOOK) if not isinstance(raw, Bad)]

    def _is_read(self, record: Any, columns: Mapping[str, str]) -> bool:
        """Returns whether a record can be read with these columns in a format of this stage."""
        try:
            # role and content are keys of a turn, not columns of the record.
            turn_keys = {**self.turn_keys, **{ours: theirs for ours, theirs in columns.items() if ours in TURN_KEYS}}
            reading = Reading(self.roles, turn_keys, asks=self.reads.prompts)
            fields = formats.rename_fields(
                record, {ours: theirs for ours, theirs in columns.items() if ours not in TURN_KEYS}, reading
            )
            format = formats.detect_format(fields, self.reads)
            if format not in self.reads.formats:
                return False
            _convert(fields, format)
        except Wrong:
            return False
        return True

    def _wanted_columns(self) -> str:
        return f"data.columns={{{self.reads.fields}}}"

    def _halves(self, example: Example | Bad) -> list[Example | Bad]:
        """Splits a pair into the good answer and the bad one for KTO; returns any other example as it is."""
        if not self.reads.splits_pairs or isinstance(example, Bad) or example.rejected is None:
            return [example]
        # A margin belongs to a pair: a single judged answer has none.
        return [replace(example, rejected=None, margin=0.0, messages=messages, good=good)
                for messages, good in ((example.messages, True), (example.rejected, False))]

    def read_file(self, number: int) -> Iterator[tuple[Example | Bad, Reading]]:
        """Yields the records of one file, each with the notes of its reading."""
        path = self.files[number]
        # A table has every column in every record, so that a null there means a missing key.
        columnar = guess_kind(path) in ("parquet", "arrow")
        form = self.forms[number]
        for raw in read.read_records(path):
            reading = Reading(form.roles, form.turn_keys, columnar, self.reads.prompts)
            yield (raw if isinstance(raw, Bad) else self._example(*raw, number, reading)), reading

    def _example(self, place: Place, record: Any, number: int, reading: Reading) -> Example | Bad:
        format, form = self.formats[number], self.forms[number]
        columns = form.find_columns(record)
        try:
            fields = formats.rename_fields(form.select(record), columns, reading)
            made = _convert(fields, format)
        except Wrong as wrong:
            return Bad(place, wrong.field, wrong.reason)
        if self.reads.prompts and made["messages"]:
            # A stage that generates the answers passes the given one and the other columns to the reward.
            made["messages"], made["columns"] = formats.split_answer(made["messages"], record, fields, columns)
        else:
            # The margin is read with every pair; if the stage does not use it, it counts as unread.
            if not self.reads.margins:
                fields.seen.discard("margin")
            reading.unread.update(formats.list_unread_columns(record, fields, columns))
        return Example(place, file=number, **made)

    def _detected(self, path: Path) -> Format:
        seen: list[Any] = []
        # The first record with a known form decides for the whole file.
        for record in self._sample(path):
            renamed = rename_keys(record, self.columns)
            found = formats.detect_format(renamed, self.reads)
            if found is not None:
                return found
            seen.append(record)
        # Without an object check() reports the first bad record, or that there is none.
        if not seen or not isinstance(seen[0], dict):
            return self.reads.assumed
        if explained := explain_record(seen[0]):
            raise DataError("{path}:1: field 'record': {reason}.", path=path, reason=explained)
        raise DataError(
            "{path}:1: field '{field}': no format has the fields of {record}{given}; {remedy}, or set data.format.",
            path=path, field=min(map(str, seen[0]), default="")[:60], record=describe_record(seen[0]),
            given=self._describe_given(seen[0]), remedy=self._suggest_remedy(seen),
        )

    def _describe_given(self, record: Any) -> UserMessage:
        """Describes the given data.columns, and which of them the record lacks."""
        if not self.columns:
            return UserMessage()
        override = format_override(self.columns)
        missing = [theirs for theirs in self.columns.values() if not has_column(record, theirs)]
        if missing:
            return message(
                " with {override} (the record has no {missing})", override=override, missing=", ".join(missing)
            )
        return message(" with {override}", override=override)

    def _suggest_remedy(self, records: list[Any]) -> UserMessage:
        columns = suggest_columns(records, self.reads, self._is_read, guess=True)
        if columns == {} and self.columns:
            return message("leave data.columns out")
        if columns:
            return message("name them, for example {override}", override=format_override(columns))
        return message("name them with {override}", override=self._wanted_columns())

    def _fits(self, path: Path, format: Format) -> None:
        """Raises DataError if the stage does not read this format."""
        if format in self.reads.formats:
            return
        sample, facts = self._sample(path), {"path": path, "found": HOLDS[format], "stage": self.stage}
        if format in (Format.text, Format.prompts) and sample and (explained := explain_record(sample[0])):
            raise DataError("{path}:1: field 'record': {reason}.", path=path, reason=explained)
        if self.reads.running_text:
            raise DataError(
                "{path} contains {found}, but stage={stage} expects running text; use stage={other}, or read one of "
                "its fields with data.format=text data.columns={{text: ...}}.",
                **facts, other=STAGE[format],
            )
        # Pairs for a stage that learns conversations: perhaps only the better answers are wanted.
        if format is Format.preference and self.reads.formats >= CHAT:
            raise DataError(
                "{path}:1: field 'rejected': {reason}; use stage=dpo or stage=rm{alone}.",
                path=path, reason=formats.PAIR, alone=self._suggest_chosen(sample),
            )
        facts |= {"expected": self.reads.expected, "other": STAGE[format]}
        # Columns can be named only for the user's own files, not for shipped data or for those of a registry.
        own = not self.config.shipped[0] and not self.is_registered
        columns = suggest_columns(sample, self.reads, self._is_read, guess=False) if own else None
        if columns:
            raise DataError(
                "{path} contains {found}, but stage={stage} expects {expected}; if the records have them under another "
                "name, set {override}, otherwise use stage={other}.",
                **facts, override=format_override(columns),
            )
        if self.config.shipped[0] and self.reads.compares:
            raise DataError(
                "{path} contains {found}, but stage={stage} expects {expected}; use stage={other} or "
                "data=guide_preference.",
                **facts,
            )
        raise DataError(
            "{path} contains {found}, but stage={stage} expects {expected}; use stage={other}.", **facts
        )

    def _suggest_chosen(self, sample: list[Any]) -> UserMessage:
        """Returns how to learn the better answers only, if these records can be read so."""
        for columns in ({"messages": "chosen"}, {"instruction": "prompt", "output": "chosen"}):
            if not self.reads.prompts and sample and self._is_read(sample[0], columns):
                return message("; {override} learns the chosen answers only", override=format_override(columns))
        return UserMessage()


def _convert(fields: Fields, format: Format) -> dict[str, Any]:
    """Returns fields of an Example. Raises Wrong."""
    if format in compared.FORMATS:
        return compared.convert_preferences(fields, format)
    return dict(zip(("messages", "text"), formats.convert_record(fields, format), strict=True))
