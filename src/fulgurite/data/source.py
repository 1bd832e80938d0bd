"""A data set as a stream of examples, every record of it checked before a model is loaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from fulgurite.data import compared, formats, read
from fulgurite.data.config import ASKING, Data, File, Format, GuideForm, GuidePreference, GuidePrompts
from fulgurite.data.find import find
from fulgurite.data.records import Bad, Example, Place
from fulgurite.data.seal import Seal
from fulgurite.errors import DataError, did_you_mean

GUIDE = Path(__file__).parent / "guide"
CHAT = frozenset({Format.alpaca, Format.sharegpt, Format.openai})
KINDS = {"pt": frozenset({Format.text}), "rm": frozenset({Format.preference}), "dpo": frozenset({Format.preference}),
         "kto": frozenset({Format.kto, Format.preference}), **dict.fromkeys(ASKING, CHAT | {Format.prompts})}
"""The formats that a stage reads; the other stages read conversations. KTO takes a pair for one good answer and one bad."""
HOLDS = {
    Format.prompts: "prompts without answers",
    Format.text: "running text", Format.preference: "pairs of answers (preference)", Format.kto: "answers with a label (kto)",
    **{format: f"conversations ({format})" for format in sorted(CHAT)},
}
STAGE = {Format.text: "pt", Format.prompts: "grpo", Format.preference: "dpo", Format.kto: "kto", **dict.fromkeys(CHAT, "sft")}
PAIRS = "prompt: ..., chosen: ..., rejected: ..."
OURS = {"pt": "text: ...", "rm": PAIRS, "dpo": PAIRS, "kto": "prompt: ..., completion: ..., label: ...",
        **dict.fromkeys(ASKING, "prompt: ...")}
"""The fields that each stage wants, for a sentence."""
LOOK = 20
"""How many records are looked at to detect a format."""


@dataclass(slots=True)
class Checked:
    """What one pass over the data found. `unread` counts the records that have a field which nothing is made of.

    Of a pair that KTO takes apart both halves count as records; `pairs` says how many such pairs there are.
    """

    rows: int = 0
    pairs: int = 0
    good: int = 0
    bad: list[Bad] = field(default_factory=list)
    unread: Counter[str] = field(default_factory=Counter)
    seal: Seal = field(default_factory=Seal)
    """What was read, for later passes to compare with."""

    def words(self, source: Source) -> str:
        """What was found, in a line."""
        left = ", ".join(f"{name} (in {count})" for name, count in self.unread.most_common(5))
        parts = [f"{self.rows:,} records in {len(source.files)} file(s), format {source.format}"]
        parts += [f"they are {self.pairs:,} pairs, each taken for one good answer and one bad"] if self.pairs else []
        parts += [f"{len(self.bad)} bad and left out"] if self.bad else []
        parts += [f"not read: {left}"] if left else []
        return "; ".join(parts)


class Source:
    """Files in known formats. `train` and `val` are their paths; `val` is empty where a share is split off instead.

    `weights` has one number a training file, or is empty. Raises DataError where a format is unknown or not the stage's.
    """

    def __init__(
        self, config: Data, stage: str, train: list[Path], val: list[Path], format: Format, columns: dict[str, str],
        weights: list[float] | None = None,
    ) -> None:
        self.config, self.stage, self.columns, self.weights = config, stage, columns, weights or []
        self.train, self.val = train, val
        known = sorted(frozenset().union(*formats.FIELDS.values()) - {"id"})
        for name in columns:
            if name not in known:
                raise DataError(f"data.columns: no format has a field {name}.{did_you_mean(name, known)} There are {', '.join(known)}.")
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

    @property
    def asks(self) -> bool:
        """Whether the stage takes prompts alone, and answers them itself."""
        return self.stage in ASKING

    def examples(self) -> Iterator[Example | Bad]:
        """Every record as an example (of a pair in KTO, two), or as what is wrong with it. The same in every pass."""
        for number in range(len(self.files)):
            for example, _ in self._of(number):
                yield from self._halves(example)

    def check(self) -> Checked:
        """Stream every record once. Raises DataError where more than `data.max_drop` are bad, or a file has no record."""
        found, bad = Checked(), 0
        for number, path in enumerate(self.files):
            before = found.rows
            for example, record in self._of(number):
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
                    if not self.asks:  # else a reward may read them
                        found.unread.update(formats.unread(record, self.formats[number], self.columns, self.stage))
            if found.rows == before:
                raise DataError(f"{path}:1: field 'record': the file holds no record; leave it out, or give a file with examples.")
        if bad > self.config.max_drop:
            more = f" (and {bad - 1} more bad records)" if bad > 1 else ""
            raise DataError(f"{found.bad[0]}{more}; mend the data, or leave bad records out with data.max_drop={bad}.")
        if found.good == 0:
            raise DataError(f"{found.bad[0]}; and no other record is good: there is nothing to train on.")
        self.checked = found
        return found

    def _halves(self, example: Example | Bad) -> list[Example | Bad]:
        """What a stage learns from: of a pair in KTO the good answer, then the bad one; else the example as it is."""
        if self.stage != "kto" or isinstance(example, Bad) or example.rejected is None:
            return [example]
        return [replace(example, rejected=None, margin=0.0, messages=messages, good=good)
                for messages, good in ((example.messages, True), (example.rejected, False))]

    def _of(self, number: int) -> Iterator[tuple[Example | Bad, Any]]:
        """The records of one file, each with what was read."""
        ids: set[int] = set()
        for raw in read.records(self.files[number]):
            if isinstance(raw, Bad):
                yield raw, None
            else:
                yield self._example(*raw, number, ids), raw[1]

    def _example(self, place: Place, record: Any, number: int, ids: set[int]) -> Example | Bad:
        format, more = self.formats[number], {}
        try:
            if format in compared.FORMATS:
                more = compared.convert(record, format, self.columns)
            else:
                more = dict(zip(("messages", "text"), formats.convert(record, format, self.columns), strict=True))
        except formats.Wrong as wrong:
            return Bad(place, wrong.field, wrong.reason)
        if isinstance(name := record.get("id"), str | int):
            if hash(name) in ids:  # 64 bits each, not the names: a large file has millions of them
                return Bad(place, "id", f"{name!r} stands twice in this file")
            ids.add(hash(name))
        if self.asks and more["messages"]:
            more["messages"], more["columns"] = formats.asked(more["messages"], record, format)
        return Example(place, file=number, **more)

    def _detected(self, path: Path) -> Format:
        seen: list[object] = []
        for raw in islice(read.records(path), LOOK):
            if isinstance(raw, Bad):
                continue
            record = {**raw[1], **dict.fromkeys(self.columns, 1)} if isinstance(raw[1], dict) else raw[1]
            found = formats.detect(record, self.stage)
            if found is not None:
                return found
            seen.append(record)
        if not seen or not isinstance(seen[0], dict):  # check() names the first bad record, or says that there is none
            due = {"pt": Format.text, "rm": Format.preference, "dpo": Format.preference, **dict.fromkeys(ASKING, Format.prompts)}
            return due.get(self.stage, Format.openai)
        names = sorted(map(str, seen[0]))
        ours = OURS.get(self.stage, "instruction: ..., output: ...")
        raise DataError(
            f"{path}:1: field '{names[0] if names else ''}': no format has the fields {', '.join(names) or '(none)'}; "
            f"name them with data.columns={{{ours}}}, or give data.format."
        )

    def _fits(self, path: Path, format: Format) -> None:
        if format in KINDS.get(self.stage, CHAT):
            return
        if self.stage == "pt":
            raise DataError(
                f"{path} holds {HOLDS[format]} and stage=pt reads running text; take stage={STAGE[format]}, or name one of its fields with "
                "data.format=text data.columns={text: ...}."
            )
        if format is Format.preference and (self.asks or self.stage not in KINDS):
            raise DataError(f"{path}:1: field 'rejected': {formats.PAIR}; take stage=dpo or stage=rm.")
        learns = {"rm": "learns from pairs of answers", "dpo": "learns from pairs of answers", "kto": "learns from answers with a label",
                  **dict.fromkeys(ASKING, "answers prompts")}
        due = learns.get(self.stage, "learns answers to questions")
        other = " or data=guide_preference" if not isinstance(self.config, File) and self.stage in ("rm", "dpo", "kto") else ""
        raise DataError(f"{path} holds {HOLDS[format]} and stage={self.stage} {due}; take stage={STAGE[format]}{other}.")


def build(config: Data, *, stage: str, seed: int) -> Source:
    """The data set of `data=guide`, one of its kin, or `file`. Raises DataError where it has no files, or does not fit the stage."""
    if isinstance(config, GuidePreference):
        return Source(config, stage, [GUIDE / "preference.jsonl"], [], Format.preference, {})
    if isinstance(config, GuideForm):
        return Source(config, stage, [GUIDE / "form.jsonl"], [GUIDE / "form_heldout.jsonl"], Format.preference, {})
    if isinstance(config, GuidePrompts):
        return Source(config, stage, [GUIDE / "prompts.jsonl"], [GUIDE / "prompts_heldout.jsonl"], Format.prompts, {})
    if not isinstance(config, File):
        return Source(config, stage, [GUIDE / "train.jsonl"], [GUIDE / "heldout.jsonl"], Format.openai, {})
    if not config.path:
        raise DataError("data=file needs data.path=<file>, such as data.path=my_examples.jsonl.")
    groups, val = find(config.path), find(config.val_path, "data.val_path")
    train = [path for group in groups for path in group]
    twice = {path.resolve() for path in train} & {path.resolve() for group in val for path in group}
    if twice:
        raise DataError(f"{min(twice)} is in data.path and in data.val_path; what is trained on cannot tell how well it goes.")
    if config.weights and len(config.weights) != len(groups):
        raise DataError(f"data.weights has {len(config.weights)} numbers and data.path {len(groups)} entries; give one an entry.")
    weights = [w for w, group in zip(config.weights, groups, strict=True) for _ in group] if config.weights else []
    return Source(config, stage, train, [path for group in val for path in group], config.format, config.columns, weights)
