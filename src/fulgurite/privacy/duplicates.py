"""Examples that share a source. Differential privacy protects one example; a person with several is protected less."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

from fulgurite.language.message import UserMessage, message


def count_duplicates(rows: Any) -> tuple[int, int]:
    """Returns how many examples are copies of an earlier one, and the size of the largest set of identical ones.
    `rows` is a sequence with `input_ids`."""
    # Hashes instead of tokens: 16 bytes per example.
    seen = Counter(hashlib.blake2b(rows[n].input_ids.tobytes(), digest_size=16).digest() for n in range(len(rows)))
    return len(rows) - len(seen), max(seen.values(), default=0)


def describe_unit(copies: int, most: int, pieces: int) -> UserMessage:
    """Returns a sentence about examples that share a source; an empty one if there are none."""
    if copies and pieces:
        return message(
            "{copies:,} examples are copies of others (up to {most} identical), and {pieces:,} examples are further "
            "parts of one record: the protection of a person with k such examples is k times weaker",
            copies=copies, most=most, pieces=pieces,
        )
    if copies:
        return message(
            "{copies:,} examples are copies of others (up to {most} identical): the protection of a person with k "
            "such examples is k times weaker",
            copies=copies, most=most,
        )
    if pieces:
        return message(
            "{pieces:,} examples are further parts of one record: the protection of a person with k such examples is "
            "k times weaker",
            pieces=pieces,
        )
    return UserMessage()
