"""What one row is, where somebody may stand behind several: the promise is made to rows."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any


def count_duplicates(rows: Any) -> tuple[int, int]:
    """How many rows are copies of an earlier one, and how many are alike at most. `rows` is a sequence with
    `input_ids`."""
    seen = Counter(hashlib.blake2b(rows[n].input_ids.tobytes(), digest_size=16).digest() for n in range(len(rows)))
    return len(rows) - len(seen), max(seen.values(), default=0)


def describe_unit(copies: int, most: int, pieces: int) -> str:
    """A sentence on rows that share their origin; empty where there are none."""
    parts = [f"{copies:,} rows are copies of others, up to {most} alike"] if copies else []
    parts += [f"{pieces:,} rows are further parts of one record"] if pieces else []
    words = " and ".join(parts)
    return f"{words}: whoever stands behind k rows is protected k times less" if words else ""
