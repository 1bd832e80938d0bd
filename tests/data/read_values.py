"""Files of records, and their values as readers give them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fulgurite.data.example import Bad
from fulgurite.data.readers import read_records

ROWS = [
    {"instruction": "Grüße?", "output": "Ça va, 你好 🙂"},
    {"instruction": "two\nlines", "output": "\"quoted\", yes"},
]
Write = Callable[[str, Any], Path]


def read_values(path: Path) -> list[Any]:
    return [raw if isinstance(raw, Bad) else raw[1] for raw in read_records(path)]
