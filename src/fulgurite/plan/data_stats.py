"""Counts the data as they are tokenised, cut and split, for the rules and the report."""

from __future__ import annotations

from dataclasses import asdict
from itertools import pairwise
from typing import Any

import numpy as np

from fulgurite.data.dataset import AnyRows, Ints
from fulgurite.data.report import DataReport
from fulgurite.data.template import Template
from fulgurite.data.tokenized import GOOD, TokenizedData
from fulgurite.plan.context import DataFacts

PORTION = 1024
"""Examples that are looked at together."""
UNLEARNED = "no token left to learn"
"""The reason, as the report has it, of examples that were masked or cut to nothing."""


def count_data(
    encoded: TokenizedData,
    rows: AnyRows,
    val: AnyRows | None,
    report: DataReport,
    template: Template,
    rows_of_embedding: int = 0,
) -> DataFacts:
    """Returns the numbers of a data set as this run trains on it. One pass over its tokens."""
    lengths, running = encoded.lengths, encoded.source.reads.running_text
    facts = DataFacts(
        records=report.rows_in,
        rows=len(rows),
        val_rows=len(val) if val is not None else 0,
        tokens=report.tokens,
        label_tokens=report.label_tokens,
        dropped={reason: d.count for reason, d in report.dropped.items()},
        lengths=lengths,
        row_lengths=rows.lengths,
        label_lengths=rows.label_counts,
        max_length=report.max_length,
        percentile_99=encoded.percentile_99,
        too_long=0 if running else int((lengths > report.max_length).sum()),
        cut_answers=report.truncated,
        not_drawn=report.not_drawn,
        empty_labels=report.dropped[UNLEARNED].count if UNLEARNED in report.dropped else 0,
        pieces=report.pieces,
        fill=report.fill,
        sources=[str(path) for path in encoded.source.files],
        fresh=encoded.fresh,
        report={name: value for name, value in asdict(report).items() if name != "dropped"},
    )
    ids = np.asarray(encoded.arrays["ids"])  # a plain view: slices of a memory map are objects of their own, and slow
    offsets = np.asarray(encoded.arrays["offsets"])
    if rows_of_embedding and int(ids.max(initial=-1)) >= rows_of_embedding:
        outside = np.unique(ids[ids >= rows_of_embedding]).tolist()
        facts.without_row = [str(word) for word in template.tokenizer.convert_ids_to_tokens(outside)]
    facts.duplicates = _count_duplicates(ids, offsets)
    _count_starts(facts, encoded, ids, offsets, template)
    if not encoded.source.reads.prompts:
        facts.no_end = _count_without_end(
            encoded, ids, offsets, [template.tokenizer.eos_token_id] if running else template.stop_ids
        )
    if encoded.compares:
        _count_compared(facts, encoded, ids, offsets)
    return facts


def _count_duplicates(ids: Any, offsets: Any) -> int:
    """Returns how many examples have exactly the tokens of an earlier one; by a hash of 64 bits, since a large file has
    millions."""
    edges: list[int] = offsets.tolist()
    # Neighbouring offsets are the ends of an example; an empty one is no copy of another empty one.
    known = {hash(ids[a:b].tobytes()) for a, b in pairwise(edges) if a < b}
    return sum(a < b for a, b in pairwise(edges)) - len(known)


def _count_starts(facts: DataFacts, encoded: TokenizedData, ids: Any, offsets: Any, template: Template) -> None:
    start = template.tokenizer.bos_token_id
    # Positions of the first tokens of all examples that have a second one.
    first = offsets[:-1][np.diff(offsets) > 1]
    if start is None or not len(first):
        return
    twice = np.flatnonzero(np.diff(offsets) > 1)[(ids[first] == start) & (ids[first + 1] == start)]
    facts.two_starts = len(twice)
    facts.first_two_starts = str(encoded.place(int(twice[0]))) if len(twice) else ""


def _count_without_end(encoded: TokenizedData, ids: Any, offsets: Any, stops: list[int]) -> int:
    """Returns how many whole examples have no end of an answer among their labels."""
    learn, none = np.asarray(encoded.arrays["learn"]), 0
    for first in range(0, len(offsets) - 1, PORTION):  # a sum over all tokens at once would take 16 bytes for each
        edges = offsets[first : first + PORTION + 1]
        ends = np.isin(ids[edges[0] : edges[-1]], stops) & (learn[edges[0] : edges[-1]] > 0)
        # Ends up to each token, with a 0 in front: a difference of two entries counts those of one example.
        so_far = np.concatenate([[0], np.cumsum(ends)])
        there: Ints = so_far[edges[1:] - edges[0]] - so_far[edges[:-1] - edges[0]]
        none += int(((there == 0) & (np.diff(edges) > 0)).sum())
    return none


def _count_compared(facts: DataFacts, encoded: TokenizedData, ids: Any, offsets: Any) -> None:
    """Counts equal answers, whether the longer one wins, and how many were judged good and bad."""
    seconds, whole = np.asarray(encoded.arrays["seconds"]), np.diff(offsets)
    # `seconds` is the token at which the worse answer begins; without one it is the end of the example.
    pairs = np.flatnonzero(seconds < whole)
    if len(pairs):
        better, worse = seconds[pairs], whole[pairs] - seconds[pairs]
        facts.length_bias = float(((better > worse) + 0.5 * (better == worse)).mean())
        # Only answers of the same length can be equal, so few are compared token by token.
        for n in pairs[better == worse].tolist():
            a, middle, b = int(offsets[n]), int(offsets[n] + seconds[n]), int(offsets[n + 1])
            if np.array_equal(ids[a:middle], ids[middle:b]):
                facts.same_pairs += 1
                facts.first_same_pair = facts.first_same_pair or str(encoded.place(n))
    else:
        good = (np.asarray(encoded.arrays["flags"]) & GOOD) > 0
        facts.positives, facts.negatives = int(good.sum()), int((~good).sum())
