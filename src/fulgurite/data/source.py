"""A data set as a stream of examples, every record of it checked before a model is loaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
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
from fulgurite.data.files import find_files, guess_kind
from fulgurite.data.fingerprint import Fingerprint
from fulgurite.data.messages import TARGETS, TURN_KEYS
from fulgurite.data.reads import CHAT, reads_of
from fulgurite.data.suggest import describe_record, explain_record, format_override, suggest_columns
from fulgurite.errors import DataError, suggest_similar

GUIDE = Path(__file__).parent / "guide"
HOLDS = {
    Format.prompts: "prompts without answers",
    Format.text: "running text", Format.preference: "pairs of answers (preference)", Format.kto: "answers with a "
        "label (kto)",
    **{format: f"conversations ({format})" for format in sorted(CHAT)},
}
STAGE = {
    Format.text: "pt",
    Format.prompts: "grpo",
    Format.preference: "dpo",
    Format.kto: "kto",
    **dict.fromkeys(CHAT, "sft"),
}
MOST_FIELDS, OTHERS = 1000, "(other fields)"
"""How many unread fields are counted by name: a record may have 100,000 of its own."""
LOOK = 20
"""How many records are looked at to detect a format."""


@dataclass(slots=True)
class Checked:
    """What one pass over the data found.

    `unread` counts the records that have a field which nothing is made of, `remarks` those that were read otherwise
    than they are written. Of a pair that KTO takes apart both halves count as records; `pairs` says how many such pairs
    there are.
    """

    rows: int = 0
    pairs: int = 0
    good: int = 0
    bad: list[Bad] = field(default_factory=list)
    unread: Counter[str] = field(default_factory=Counter)
    seal: Fingerprint = field(default_factory=Fingerprint)
    """What was read, for later passes to compare with."""
    remarks: Counter[str] = field(default_factory=Counter)

    def count_unread(self, names: Iterable[str]) -> None:
        """Counts the unread fields of a record. Names are shortened, and beyond MOST_FIELDS of them counted together.
        """
        for name in sorted(shorten(name) or "''" for name in names):
            self.unread[name if name in self.unread or len(self.unread) < MOST_FIELDS else OTHERS] += 1

    def describe(self, source: Source) -> str:
        """What was found, in a line."""
        left = ", ".join(f"{name} (in {count})" for name, count in self.unread.most_common(5))
        left += f" and {len(self.unread) - 5} more" if len(self.unread) > 5 else ""
        parts = [f"{self.rows:,} records in {len(source.files)} file(s), format {source.format}"]
        parts += [f"they are {self.pairs:,} pairs, each taken for one good answer and one bad"] if self.pairs else []
        parts += [f"{len(self.bad)} bad and left out"] if self.bad else []
        parts += [f"{remark} (in {count})" for remark, count in self.remarks.most_common()]
        parts += [f"not read: {left}"] if left else []
        return "; ".join(parts)


class Source:
    """Files in known formats. `train` and `val` are their paths; `val` is empty where a share is split off instead.

    `weights` has one number a training file, or is empty. Raises DataError where a format is unknown or not the
    stage's.
    """

    def __init__(
        self, config: Data, stage: str, train: list[Path], val: list[Path], format: Format, columns: dict[str, str],
        weights: list[float] | None = None,
    ) -> None:
        self.config, self.stage, self.weights = config, stage, weights or []
        self.reads = reads_of(stage)
        self.columns = {ours: theirs for ours, theirs in columns.items() if ours not in TURN_KEYS}
        self.turn_keys = {ours: theirs for ours, theirs in columns.items() if ours in TURN_KEYS}
        self.train, self.val = train, val
        known = sorted(formats.COLUMNS)
        for name in columns:
            if name not in known:
                raise DataError(
                    f"data.columns: no format has a field {name}.{suggest_similar(name, known)} There are "
                    f"{', '.join(known)}."
                )
        self.roles = _check_roles(getattr(config, "roles", {}))
        self.formats = [format if format is not Format.auto else self._detected(path) for path in self.files]
        self.checked: Checked | None = None
        for path, found in zip(self.files, self.formats, strict=True):
            self._fits(path, found)

    @property
    def files(self) -> list[Path]:
        """Training files, then validation files; `Example.file` counts in this order."""
        return [*self.train, *self.val]

    @property
    def format(self) -> str:
        """The format of the files; several are joined by commas."""
        return ", ".join(dict.fromkeys(str(f) for f in self.formats))

    def examples(self) -> Iterator[Example | Bad]:
        """Every record as an example (of a pair in KTO, two), or as what is wrong with it. The same in every pass."""
        for number in range(len(self.files)):
            for example, _ in self._of(number):
                yield from self._halves(example)

    def check(self) -> Checked:
        """Stream every record once.

        Raises DataError if more than `data.max_drop` are bad, none is good, or a file has no record.
        """
        found, bad = Checked(), 0
        for number, path in enumerate(self.files):
            before = found.rows
            for example, reading in self._of(number):
                for half in self._halves(example):
                    found.seal.add(half)
                halves = len(self._halves(example))
                found.rows += halves
                found.pairs += halves > 1
                if isinstance(example, Bad):
                    bad += 1
                    if bad <= max(self.config.max_drop, 1):
                        found.bad.append(example)
                else:
                    found.good += halves
                    found.count_unread(reading.unread)
                    found.remarks.update(reading.remarks)
            if found.rows == before:
                raise DataError(
                    f"{path}:1: field 'record': the file holds no record; leave it out, or give a file with examples."
                )
        if found.good == 0:
            raise DataError(self._all_bad(found.bad[0], bad))
        if bad > self.config.max_drop:
            more = f" (and {bad - 1} more bad records)" if bad > 1 else ""
            raise DataError(f"{found.bad[0]}{more}; mend the data, or leave bad records out with data.max_drop={bad}.")
        self.checked = found
        return found

    def _all_bad(self, first: Bad, count: int) -> str:
        """The sentence for data of which nothing can be used: what it looks like, as what it was read, what to change.
        """
        number = next((n for n, path in enumerate(self.files) if str(path) == first.place.file), 0)
        sample = self._sample(self.files[number])
        every = "the only record is bad" if count == 1 else f"all {count:,} records are bad"
        if not sample:
            return f"{first}; {every}."
        read_as = ", ".join(dict.fromkeys(str(format) for format in self.formats))
        due = ", ".join(sorted(self.reads.formats))
        columns = suggest_columns(sample, self.reads, self._is_read, guess=False)
        inside = "[" in first.field  # the field was found, and something in it is wrong
        remedy = "mend them" if inside else f"mend them, or name their fields with {self._wanted_columns()}"
        if columns is not None and columns != self.columns:
            remedy = f"try {format_override(columns)}" if columns else "leave data.columns out"
        return (
            f"{first}; {every}. They look like {describe_record(sample[0])} and were read as {read_as} "
            f"(stage={self.stage} reads {due}); {remedy}."
        )

    def _sample(self, path: Path) -> list[Any]:
        return [raw[1] for raw in islice(read.read_records(path), LOOK) if not isinstance(raw, Bad)]

    def _is_read(self, record: Any, columns: Mapping[str, str]) -> bool:
        """Whether a record can be read under other columns, in a format of this stage."""
        try:
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
        """What a stage learns from: of a pair in KTO the good answer, then the bad one; else the example as it is."""
        if not self.reads.splits_pairs or isinstance(example, Bad) or example.rejected is None:
            return [example]
        return [replace(example, rejected=None, margin=0.0, messages=messages, good=good)
                for messages, good in ((example.messages, True), (example.rejected, False))]

    def _of(self, number: int) -> Iterator[tuple[Example | Bad, Reading]]:
        """The records of one file, each with what was noticed while it was read."""
        path = self.files[number]
        columnar = guess_kind(path) in ("parquet", "arrow")
        for raw in read.read_records(path):
            reading = Reading(self.roles, self.turn_keys, columnar, self.reads.prompts)
            yield (raw if isinstance(raw, Bad) else self._example(*raw, number, reading)), reading

    def _example(self, place: Place, record: Any, number: int, reading: Reading) -> Example | Bad:
        format = self.formats[number]
        try:
            fields = formats.rename_fields(record, self.columns, reading)
            made = _convert(fields, format)
        except Wrong as wrong:
            return Bad(place, wrong.field, wrong.reason)
        if self.reads.prompts and made["messages"]:
            made["messages"], made["columns"] = formats.split_answer(made["messages"], record, fields, self.columns)
        else:
            if not self.reads.margins:
                fields.seen.discard("margin")
            reading.unread.update(formats.list_unread_columns(record, fields, self.columns))
        return Example(place, file=number, **made)

    def _detected(self, path: Path) -> Format:
        seen: list[Any] = []
        for record in self._sample(path):
            renamed = rename_keys(record, self.columns)
            found = formats.detect_format(renamed, self.reads)
            if found is not None:
                return found
            seen.append(record)
        if not seen or not isinstance(seen[0], dict):  # check() names the first bad record, or says that there is none
            return self.reads.assumed
        if explained := explain_record(seen[0]):
            raise DataError(f"{path}:1: field 'record': {explained}.")
        columns = suggest_columns(seen, self.reads, self._is_read, guess=True)
        remedy = (
            f"name them, for example {format_override(columns)}"
            if columns
            else f"name them with {self._wanted_columns()}"
        )
        if columns == {} and self.columns:
            remedy = "leave data.columns out"
        given = f" under {format_override(self.columns)}" if self.columns else ""
        given += "".join(
            f", and there is no {theirs}" for theirs in self.columns.values() if not has_column(seen[0], theirs)
        )
        first = min(map(str, seen[0]), default="")
        raise DataError(
            f"{path}:1: field '{first[:60]}': no format has the fields of {describe_record(seen[0])}{given}; "
            f"{remedy}, or give data.format."
        )

    def _fits(self, path: Path, format: Format) -> None:
        if format in self.reads.formats:
            return
        sample = self._sample(path)
        if format in (Format.text, Format.prompts) and sample and (explained := explain_record(sample[0])):
            raise DataError(f"{path}:1: field 'record': {explained}.")
        if self.reads.running_text:
            raise DataError(
                f"{path} holds {HOLDS[format]} and stage={self.stage} reads running text; take stage={STAGE[format]}, "
                "or name one of its "
                "fields with data.format=text data.columns={text: ...}."
            )
        if format is Format.preference and self.reads.formats >= CHAT:
            alone = self._chosen_alone(sample)
            raise DataError(f"{path}:1: field 'rejected': {formats.PAIR}; take stage=dpo or stage=rm{alone}.")
        due = self.reads.learns
        own = not self.config.shipped[0]
        columns = suggest_columns(sample, self.reads, self._is_read, guess=False) if own else None
        if columns:
            raise DataError(
                f"{path} holds {HOLDS[format]} and stage={self.stage} {due}; if they are there under another name, "
                "name them with "
                f"{format_override(columns)}; else take stage={STAGE[format]}."
            )
        other = " or data=guide_preference" if self.config.shipped[0] and self.reads.compares else ""
        raise DataError(
            f"{path} holds {HOLDS[format]} and stage={self.stage} {due}; take stage={STAGE[format]}{other}."
        )

    def _chosen_alone(self, sample: list[Any]) -> str:
        """The words that learn the better answers alone, if these records can be read so."""
        for columns in ({"messages": "chosen"}, {"instruction": "prompt", "output": "chosen"}):
            if not self.reads.prompts and sample and self._is_read(sample[0], columns):
                return f"; {format_override(columns)} learns the chosen answers alone"
        return ""


def _convert(fields: Fields, format: Format) -> dict[str, Any]:
    """The fields of an Example. Raises Wrong."""
    if format in compared.FORMATS:
        return compared.convert_preferences(fields, format)
    return dict(zip(("messages", "text"), formats.convert_record(fields, format), strict=True))


def _check_roles(roles: Mapping[str, str]) -> Mapping[str, str]:
    for name, role in roles.items():
        if role not in TARGETS:
            raise DataError(f"data.roles: {name} is to be {role}, which is no role; there are {', '.join(TARGETS)}.")
    return {name.strip().lower(): role for name, role in roles.items()} | dict(roles)


def build_source(config: Any, *, stage: str, seed: int) -> Source:
    """The data set of `data=guide`, one of its kin, or `file`.

    Raises DataError where it has no files, or does not fit the stage.
    """
    if config.shipped[0]:
        training, held_out = ([GUIDE / name] if name else [] for name in config.shipped)
        return Source(config, stage, training, held_out, config.shipped_format, {})
    if not config.path:
        raise DataError("data=file needs data.path=<file>, such as data.path=my_examples.jsonl.")
    groups, val = find_files(config.path), find_files(config.val_path, "data.val_path")
    train = [path for group in groups for path in group]
    twice = {path.resolve() for path in train} & {path.resolve() for group in val for path in group}
    if twice:
        raise DataError(
            f"{min(twice)} is in data.path and in data.val_path; what is trained on cannot tell how well it goes."
        )
    if config.weights and len(config.weights) != len(groups):
        raise DataError(
            f"data.weights has {len(config.weights)} numbers and data.path {len(groups)} entries; give one an entry."
        )
    weights = [w for w, group in zip(config.weights, groups, strict=True) for _ in group] if config.weights else []
    return Source(
        config, stage, train, [path for group in val for path in group], config.format, config.columns, weights
    )
