"""Rows of preferences: pairs of answers, and single answers that were judged.

The sides of a pair are cut, dropped and padded together.

Shapes: B rows of a micro-batch, S sides of a row (2 of a pair, 1 of a judged answer), T tokens of the longest side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from fulgurite.data.config import SpecialTokens
from fulgurite.data.report import DataReport, Reason
from fulgurite.data.tokenized import GOOD, SPECIAL_INSIDE, STOP_INSIDE, TOO_LONG, Ints, TokenizedData
from fulgurite.data.unpadded import describe_unpadded
from fulgurite.language.message import message
from fulgurite.loss.language import IGNORE

SPECIAL = Reason(message("the text of a special token"))
"""The reason of data.special_tokens=drop."""
LONG = Reason(message("longer than data.max_length"))
END_TOKEN = Reason(message("an answer contains the text of an end token"))
UNLEARNED = Reason(message("no token left to learn"))
LONG_ANSWER = Reason(message("an answer alone is longer than data.max_length"))


class PreferenceDataset:
    """Rows of examples with one or two sides.

    `cuts` [R] are the numbers of tokens that are cut from the prompt, the same on every side.

    It has the attributes of TokenDataset: `lengths` are those of the longer side, `units` the weights of a mean (1 per
    row).
    """

    packed = False

    def __init__(self, encoded: TokenizedData, numbers: Ints, cuts: Ints) -> None:
        self.encoded, self.numbers, self.cuts = encoded, numbers, cuts
        # The cut is from the left of the prompt, so every side of a row is shorter by the same number.
        self.lengths: Ints = encoded.lengths[numbers] - cuts
        # Each pair or judged answer counts once in the mean of a step, however long it is.
        self.units: Ints = np.ones(len(numbers), dtype=np.int64)
        labels = [sum(encoded.labels(int(n), b, e) for b, e in encoded.sides(int(n))) for n in numbers]
        self.label_counts: Ints = np.array(labels, dtype=np.int64)
        self.tokens: Ints = np.array(
            [sum(e - b - int(cut) for b, e in encoded.sides(int(n))) for n, cut in zip(numbers, cuts, strict=True)],
            dtype=np.int64,
        )

    def __len__(self) -> int:
        return len(self.numbers)

    def places(self, i: int) -> list[str]:
        """Returns the place of the example of row i, as file:line."""
        return [str(self.encoded.place(int(self.numbers[i])))]

    def take(self, numbers: Ints) -> PreferenceDataset:
        """Returns the rows of these numbers, in this order."""
        return PreferenceDataset(self.encoded, self.numbers[numbers], self.cuts[numbers])

    def good(self, i: int) -> bool:
        """Returns whether the answer of row i was judged good."""
        return self.encoded.flagged(int(self.numbers[i]), GOOD)

    def margin(self, i: int) -> float:
        """Returns the margin by which the reward of row i's better answer should be larger."""
        return float(self.encoded.arrays["margins"][self.numbers[i]])

    def prompt(self, i: int) -> bytes:
        """Returns the tokens before the answer of row i, uncut: they are equal for rows with the same prompt."""
        number = int(self.numbers[i])
        # argmax of booleans is the first True: the beginning of the answer.
        ids, learn = self.encoded.tokens(number, *self.encoded.sides(number)[0])
        return ids[: int(np.argmax(learn))].tobytes()

    def sides(self, i: int) -> list[tuple[Ints, int]]:
        """Returns the tokens of each side of row i, int64 [T], and the position of its answer. The last token is the
        end of the answer.

        A template may write more after it, such as a line break. The model does not generate that, and the reward is
        read at the end of the answer.
        """
        number, cut = int(self.numbers[i]), int(self.cuts[i])
        found = []
        for begin, end in self.encoded.sides(number):
            ids, learn = self.encoded.tokens(number, begin + cut, end)
            # `learn[::-1]` finds the last learned token, the end of the answer; `learn` the first one.
            found.append((ids[: len(ids) - int(np.argmax(learn[::-1]))], int(np.argmax(learn))))
        return found


def select_kept(encoded: TokenizedData, max_length: int, truncate: bool, report: DataReport) -> tuple[Ints, Ints]:
    """Returns the examples that are kept, and the number of tokens to cut from the left of each prompt; adds the
    dropped ones to the report.

    Both sides of a pair are cut by the same number, or the pair is dropped: an answer without its end, or two different
    prompts, would make the comparison meaningless.
    """
    numbers, cuts = [], []
    for number, length in enumerate(encoded.lengths.tolist()):
        if encoded.flagged(number, TOO_LONG):
            report.drop(LONG, str(encoded.place(number)))
            continue
        sides = encoded.sides(number)
        # The tokens to cut from the prompt. At least one token of the prompt has to stay.
        excess = max(length - max_length, 0)
        prompt = int(np.argmax(encoded.tokens(number, *sides[0])[1]))
        if encoded.source.config.special_tokens == SpecialTokens.drop and encoded.flagged(number, SPECIAL_INSIDE):
            report.drop(SPECIAL, str(encoded.place(number)))
        elif encoded.flagged(number, STOP_INSIDE):
            report.drop(END_TOKEN, str(encoded.place(number)))
        elif any(encoded.labels(number, begin, end) == 0 for begin, end in sides):
            report.drop(UNLEARNED, str(encoded.place(number)))
        elif excess and not truncate:
            report.drop(LONG, str(encoded.place(number)))
        elif excess >= max(prompt, 1):
            report.drop(LONG_ANSWER, str(encoded.place(number)))
        else:
            report.truncated += excess > 0
            numbers.append(number)
            cuts.append(excess)
    report.truncated_share = report.truncated / max(len(numbers), 1)
    # Indexed by the number of the example, so that any selection of rows finds its own.
    all_cuts = np.zeros(len(encoded), dtype=np.int64)
    all_cuts[numbers] = cuts
    return np.array(numbers, dtype=np.int64), all_cuts


def collate_preferences(rows: PreferenceDataset, numbers: Sequence[int]) -> dict[str, Any]:
    """Makes the batch: `input_ids`, `targets` [S·B, T], right-padded, all first sides, then all second ones; `good`,
    `margins` [B].

    `examples` are the rows' example numbers, `lengths` [S·B] their tokens, `label_positions` the places of the targets
    among all S·B·T tokens. `shared` is the number of tokens at the
    beginning that both sides of every row have in common, without learned tokens and the token before the first one.
    """
    parts = [rows.sides(n) for n in numbers]
    # All first sides, then all second ones: [S·B] in this order.
    ordered = [side for n in range(len(parts[0]) if parts else 0) for side in (sides[n] for sides in parts)]
    return _pad(ordered) | {
        "shared": _count_shared(parts), "rows": list(numbers), "examples": [int(rows.numbers[n]) for n in numbers],
        "good": torch.tensor([rows.good(n) for n in numbers], dtype=torch.bool),
        "margins": torch.tensor([rows.margin(n) for n in numbers], dtype=torch.float32),
    }


def collate_mismatched(rows: PreferenceDataset, pairs: Sequence[tuple[int, int]], most: int) -> dict[str, Any]:
    """Makes for each pair the prompt of its first row with the answer of its second, cut to `most` tokens."""
    made = []
    for first, second in pairs:
        # KTO's baseline: a prompt with the answer to another one, whose ratio estimates the divergence.
        (own, start), (other, begin) = rows.sides(first)[0], rows.sides(second)[0]
        # The prompt is never cut, and at least one token of the answer stays.
        made.append((np.concatenate([own[:start], other[begin:]])[: max(most, start + 1)], start))
    return _pad(made) | {"shared": 0, "rows": [first for first, _ in pairs]}


def _count_shared(parts: Sequence[Sequence[tuple[Ints, int]]]) -> int:
    if not parts or len(parts[0]) == 1:
        return 0
    # The last token of the prompt predicts the first of the answer, so it is not shared.
    count = min(start for sides in parts for _, start in sides) - 1
    # A template may render the two prompts differently; then nothing is shared, and the result is the same.
    return count if all(np.array_equal(first[:count], second[:count]) for (first, _), (second, _) in parts) else 0


def _pad(sides: Sequence[tuple[Ints, int]]) -> dict[str, Any]:
    longest = max((len(ids) for ids, _ in sides), default=0)
    ids = torch.zeros(len(sides), longest, dtype=torch.int64)
    targets = torch.full((len(sides), longest), IGNORE, dtype=torch.int64)
    for i, (tokens, start) in enumerate(sides):
        found = torch.from_numpy(tokens)
        ids[i, : len(tokens)] = found
        # Only the answer has targets; the token before it predicts its first token.
        targets[i, start - 1 : len(tokens) - 1] = found[start:]
    lengths = [len(tokens) for tokens, _ in sides]
    # Listed here, because the device would have to be waited for.
    labels = (targets != IGNORE).flatten().nonzero()[:, 0]
    batch = {"input_ids": ids, "targets": targets, "label_positions": labels, "lengths": torch.tensor(lengths).long()}
    return batch | {"tokens": sum(lengths)} | describe_unpadded(lengths, longest)
