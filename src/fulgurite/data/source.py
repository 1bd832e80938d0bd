"""A data set as a stream of examples, every record of it checked before a model is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from fulgurite.data import formats, read
from fulgurite.data.config import Data, File, Format
from fulgurite.data.records import Bad, Example
from fulgurite.errors import DataError

GUIDE = Path(__file__).parent / "guide"
LOOK = 20
"""How many records are looked at to detect a format."""


@dataclass(slots=True)
class Checked:
    """What one pass over the data found."""

    rows: int = 0
    good: int = 0
    bad: list[Bad] = field(default_factory=list)


class Source:
    """Files in a known format. `train` and `val` are their paths; `val` is empty where a share is split off instead."""

    def __init__(self, config: Data, stage: str, train: list[Path], val: list[Path], format: Format, columns: dict[str, str]) -> None:
        self.config, self.stage, self.columns = config, stage, columns
        self.train, self.val = train, val
        self.format = format if format is not Format.auto else self._detected()
        self.checked = Checked()
        self._fits()

    @property
    def files(self) -> list[Path]:
        """Training files, then validation files; `Example.file` counts in this order."""
        return [*self.train, *self.val]

    def examples(self) -> Iterator[Example | Bad]:
        """Every record as an example, or as what is wrong with it."""
        for number, path in enumerate(self.files):
            for raw in read.records(path):
                if isinstance(raw, Bad):
                    yield raw
                    continue
                place, record = raw
                try:
                    messages, text = formats.convert(record, self.format, self.columns)
                except formats.Wrong as wrong:
                    yield Bad(place, wrong.field, wrong.reason)
                else:
                    yield Example(place, messages, text, number)

    def check(self) -> Checked:
        """Stream every record once. Raises DataError where more than `data.max_drop` are bad, or none is good."""
        found = Checked()
        for example in self.examples():
            found.rows += 1
            if isinstance(example, Bad):
                found.bad.append(example)
            else:
                found.good += 1
        most = self.config.max_drop
        if len(found.bad) > most:
            more = f" and {len(found.bad) - 1} more bad records" if len(found.bad) > 1 else ""
            raise DataError(f"{found.bad[0]}{more}; mend them, or tolerate them with data.max_drop={len(found.bad)}.")
        if found.good == 0:
            raise DataError(f"{self.files[0]}: there is no record in it; give a file with examples.")
        self.checked = found
        return found

    def _detected(self) -> Format:
        seen: list[object] = []
        for raw in islice(read.records(self.files[0]), LOOK):
            if isinstance(raw, Bad):
                continue
            record = {**raw[1], **{o: 1 for o in self.columns}} if isinstance(raw[1], dict) else raw[1]
            found = formats.detect(record)
            if found is not None:
                return found
            seen.append(raw[1])
        if not seen:  # nothing readable: check() names the first bad record, or says that there is none
            return Format.text if self.stage == "pt" else Format.alpaca
        names = sorted(map(str, seen[0])) if isinstance(seen[0], dict) else [type(seen[0]).__name__]
        raise DataError(
            f"{self.files[0]}: no format has the fields {', '.join(names)}; name them with data.columns={{instruction: ..., output: ...}}, "
            "or give data.format."
        )

    def _fits(self) -> None:
        if self.stage == "pt" and self.format is not Format.text:
            raise DataError(f"{self.files[0]} holds conversations ({self.format}) and stage=pt reads running text; take stage=sft.")
        if self.stage != "pt" and self.format is Format.text:
            raise DataError(f"{self.files[0]} holds running text and stage={self.stage} needs conversations; take stage=pt.")


def build(config: Data, *, stage: str, seed: int) -> Source:
    """The data set of `data=guide` or `data=file`. Raises DataError where there are no files, or they do not fit the stage."""
    if not isinstance(config, File):
        return Source(config, stage, [GUIDE / "train.jsonl"], [GUIDE / "heldout.jsonl"], Format.openai, {})
    if not config.path:
        raise DataError("data=file needs data.path=<file>, such as data.path=my_examples.jsonl.")
    train, val = read.find(config.path), read.find(config.val_path)
    if config.weights and len(config.weights) != len(train):
        raise DataError(f"data.weights has {len(config.weights)} numbers for {len(train)} files; give one a file.")
    return Source(config, stage, train, val, config.format, config.columns)
