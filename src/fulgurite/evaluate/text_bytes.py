"""Counts the bytes of the text of learned tokens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fulgurite.data.dataset import TokenDataset

CONTEXT = 16
"""Tokens before a span that are decoded with it: a space at its beginning, or a character that begins before it."""


def count_target_bytes(rows: TokenDataset, tokenizer: Any) -> int:
    """Returns the UTF-8 bytes of the text of all targets of the rows; special tokens, such as the end of an answer,
    have none."""
    total = 0
    for example, begin, end in rows.pieces.tolist():
        ids, learn = rows.encoded.tokens(example, 0, end)
        learn = np.asarray(learn, dtype=bool).copy()
        learn[: begin + 1] = False  # the first token of a piece is predicted by none, or in the piece before
        for first, last in _find_spans(learn):
            # The first token of a text may lose its blank, so both texts begin with the same context.
            start = max(first - CONTEXT, 0)
            total += _count(tokenizer, ids[start:last]) - _count(tokenizer, ids[start:first])
    return total


def _find_spans(learn: np.ndarray[Any, np.dtype[np.bool_]]) -> Iterator[tuple[int, int]]:
    """Yields the first and the last position (excluded) of each run of true values."""
    # The difference is 1 at the beginning of a run and -1 after its end, in turn.
    edges = np.flatnonzero(np.diff(np.concatenate([[False], learn, [False]]).astype(np.int8)))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


def _count(tokenizer: Any, ids: Any) -> int:
    text = tokenizer.decode([int(i) for i in ids], skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return len(str(text).encode("utf-8", "replace"))
