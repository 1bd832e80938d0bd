"""A preview of data: the format, bad records by line, lengths, and the first examples with what is learned marked.

It reads the beginning of the files within a few seconds, so that a file of any size is answered.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np

from fulgurite.board.draft import Draft
from fulgurite.board.draft_guard import IsAllowed
from fulgurite.board.worker.length_bins import count_bins
from fulgurite.board.worker.outside import refuse_outside
from fulgurite.config.compose import compose
from fulgurite.config.schema import build, list_options
from fulgurite.data.config import Data, SpecialTokens
from fulgurite.data.example import Bad, Example
from fulgurite.data.source import STAGE, Source
from fulgurite.data.template import Learned, Template
from fulgurite.data.tokenized import tokenize_examples
from fulgurite.errors import DataError, FulguriteError, RequestError
from fulgurite.language.message import UserMessage, message
from fulgurite.plan.outline import read_outline
from fulgurite.plan.prepare import read_template, settle_precision
from fulgurite.plan.recall import Keeper, key_outline, key_template
from fulgurite.plan.show import Shown, build_list

SECONDS_READING, SECONDS_TOKENIZING = 4.0, 3.0
"""The longest that the records are read, and tokenized."""
MOST_EXAMPLES, MOST_SHOWN, MOST_PLACES, MOST_REASONS = 2000, 5, 20, 50
MOST_TOKENS = 1500
"""Tokens of an example that are shown."""
CHUNK = 64


@dataclass(slots=True)
class Head:
    """What was read of the records before the time was over."""

    records: int = 0
    bad: dict[str, tuple[int, list[str]]] = field(default_factory=dict)
    """How many records are bad for a reason, and the places of the first."""
    examples: list[Example] = field(default_factory=list)
    unread: dict[str, int] = field(default_factory=dict)
    is_whole: bool = True
    first_bad: Bad | None = None

    def add_bad(self, record: Bad) -> None:
        """Counts a bad record under its field and reason."""
        self.first_bad = self.first_bad or record
        reason = str(message("field '{field}': {reason}", field=record.field, reason=record.reason))
        known = reason if reason in self.bad or len(self.bad) < MOST_REASONS else str(message("other reasons"))
        count, places = self.bad.get(known, (0, []))
        self.bad[known] = (count + 1, places if len(places) >= MOST_PLACES else [*places, str(record.place)])


def preview_data(draft: Draft, words: Sequence[str], is_allowed: IsAllowed, keep: Keeper) -> dict[str, Any]:
    """Returns the answer of /api/data. Raises DataError if nothing of the data can be read."""
    run = compose(words).run
    stages, failed = find_stages(run.data, run.stage.name, run.seed)
    if not stages:
        raise failed
    # as long as no stage is chosen that can read them, the usual one for these records is taken
    asked = run.stage.name
    taken = asked if asked in stages else stages[0]
    run = run if taken == asked else compose([*words, f"stage={taken}"]).run
    source: Source = build(run.data, stage=taken, seed=run.seed)
    refuse_outside(source.files, is_allowed, run.data.shipped[0] != "")
    head = read_head(source)

    def make_template() -> Template:
        # the model may not be there yet: the preview then shows the records without tokens
        dtypes = settle_precision(run.precision, run.trainer)
        outlined = key_outline(run.stage, run.method, run.model, dtypes)
        outline = keep("outline", outlined, lambda: read_outline(run, dtypes))
        rewards = run.stage.gives_rewards
        templated = key_template(run.model, run.data, rewards)
        template, _, _ = keep("template", templated, lambda: read_template(run.data, rewards, outline.tokenizer))
        return template

    refusal, changes = str(describe_refusal(head, run.data.max_drop)), None
    chosen = draft.choices.get("stage", taken)
    if chosen != taken:
        refusal, changes = str(failed), {"choices": {"stage": taken}, "values": {}}
    answer = {
        "format": source.format, "stage": taken, "stages": stages, "files": [str(path) for path in source.files],
        "bytes": sum(path.stat().st_size for path in source.files), "records": head.records, "whole": head.is_whole,
        "examples": head.records - sum(count for count, _ in head.bad.values()),
        "dropped": [
            {"reason": reason, "count": count, "places": places} for reason, (count, places) in head.bad.items()
        ],
        "unread_fields": head.unread, "refused": refusal, "changes": changes,
        "lengths": None, "shown": [], "note": "",
    }
    if not head.examples:
        if head.is_whole:
            source.check()  # raises the error that has the remedy
        return answer
    try:
        answer |= show_examples(run.data, source, head, make_template)
    except FulguriteError as error:  # the model is not there yet, or its template refuses the records
        answer |= {"note": str(error), "shown": [show_plain(example) for example in head.examples[:MOST_SHOWN]]}
    return answer


def find_stages(data: Data, stage: str, seed: int) -> tuple[list[str], FulguriteError]:
    """Returns the stages that read the format of the data, the usual one for it first, and the error of `stage`."""
    found: dict[str, Source] = {}
    failed: FulguriteError = DataError()
    # the chosen stage is tried first, and its error is the one that is kept
    for name in dict.fromkeys([stage, *list_options("stage")]):
        try:
            found[name] = build(data, stage=name, seed=seed)
        except RequestError as error:
            failed = failed if failed.message else error
    usual = {STAGE.get(source.formats[0]) for source in found.values() if source.formats}
    # sorted keeps the order of equals: the stages usual for the format come first, the others as they were
    return sorted(found, key=lambda name: name not in usual), failed


def describe_refusal(head: Head, max_drop: int) -> UserMessage:
    """Returns why training would refuse these records, an empty sentence if it would not."""
    count = sum(count for count, _ in head.bad.values())
    if count <= max_drop or head.first_bad is None:
        return UserMessage()
    return message(
        "{first}; {count:,} records cannot be used. Correct them, or leave them out with data.max_drop={count}.",
        first=head.first_bad, count=count,
    )


def read_head(source: Source) -> Head:
    """Reads records for some seconds, and keeps the first examples."""
    head, end = Head(), time.monotonic() + SECONDS_READING
    for number in range(len(source.files)):
        for example, reading in source.read_file(number):
            head.records += 1
            if isinstance(example, Bad):
                head.add_bad(example)
            else:
                for name in sorted(reading.unread)[:MOST_REASONS]:
                    if name in head.unread or len(head.unread) < MOST_REASONS:
                        head.unread[name] = head.unread.get(name, 0) + 1
                if len(head.examples) < MOST_EXAMPLES:
                    head.examples.append(example)
            if time.monotonic() > end:
                head.is_whole = False
                return head
    return head


def show_examples(data: Data, source: Source, head: Head, make_template: Callable[[], Template]) -> dict[str, Any]:
    """Tokenizes examples for a few seconds: their lengths, and the first of them as text with what is learned."""
    template = make_template()
    lengths: list[int] = []
    shown: list[Shown] = []
    end = time.monotonic() + SECONDS_TOKENIZING
    for example, learned, second in _tokenize(data, source, head.examples, template):
        whole = len(learned.ids)
        # of a pair the longer side counts: `second` is the place at which the rejected answer begins
        lengths.append(max(second, whole - second) if second is not None else whole)
        if len(shown) < MOST_SHOWN:
            shown += _list_sides(example, learned, second, source.reads.prompts)
        if time.monotonic() > end:
            break
    return {
        "lengths": {
            "bins": count_bins(lengths), "of": len(lengths),
            "p99": int(np.ceil(np.percentile(lengths, 99))) if lengths else 0, "max": max(lengths, default=0),
        },
        "shown": [
            entry | {"cut": side.place in cut}
            for cut in [{side.place for side in shown if len(side.ids) == MOST_TOKENS}]
            for side, entry in zip(shown, build_list(shown, template.tokenizer), strict=True)
        ],
    }


def _tokenize(
    data: Data, source: Source, examples: Sequence[Example], template: Template
) -> Iterator[tuple[Example, Learned, int | None]]:
    waiting = iter(examples)
    while chunk := list(islice(waiting, CHUNK)):
        if SpecialTokens(data.special_tokens) is SpecialTokens.drop:
            chunk = [replace(example) for example in chunk]
        for example, learned, _, second in tokenize_examples(
            chunk, template.tokenizer, template, data, source.reads.prompts
        ):
            yield example, learned, second


def _list_sides(example: Example, learned: Learned, second: int | None, prompts: bool) -> list[Shown]:
    """Returns the sides of an example, each cut to what is shown; nothing of a prompt is learned."""
    parts = [(0, len(learned.ids))] if second is None else [(0, second), (second, len(learned.ids))]
    names = [describe_kind(example, prompts)]
    if second is not None:
        names = [str(message("chosen answer")), str(message("rejected answer"))]
    sides = []
    for name, (begin, end) in zip(names, parts, strict=True):
        end = min(end, begin + MOST_TOKENS)
        marks = [False] * (end - begin) if prompts else [bool(mark) for mark in learned.learn[begin:end]]
        marks[:1] = [False] * len(marks[:1])  # nothing precedes the first token, from which it could be predicted
        sides.append(Shown(str(example.place), name, list(learned.ids[begin:end]), marks))
    return sides


def describe_kind(example: Example, prompts: bool) -> str:
    """Returns what an example is, in the language in use."""
    if example.text is not None:
        return str(message("running text"))
    if prompts:
        return str(message("prompt"))
    if example.rejected is None and example.good is not None:
        return str(message("good answer") if example.good else message("bad answer"))
    return str(message("conversation"))


def show_plain(example: Example) -> dict[str, Any]:
    """Returns an example as text without tokens, if there is no tokenizer."""
    text = example.text or "\n".join(f"{turn.role}: {turn.content}" for turn in example.messages or ())
    return {
        "place": str(example.place), "what": describe_kind(example, False), "tokens": 0, "learned": 0, "cut": False,
        "text": [{"text": text[:MOST_TOKENS * 4], "learned": False}],
    }
