"""What trains, as a table: module, layers, parameters, share."""

from __future__ import annotations

import re
from collections.abc import Iterable

from fulgurite.language.message import message
from fulgurite.model.peft_internals import OWN_PARTS, get_plain_name
from fulgurite.text.layout import count_cells, pad

NUMBER = re.compile(r"\.(\d+)\.")


def table(trained: Iterable[tuple[str, int]], whole: int) -> str:
    """Returns lines of `module  layers  parameters  share` from (name, count) pairs; names that differ by their layer
    are one row."""
    found: dict[str, tuple[list[int], int]] = {}
    for name, count in trained:
        # The first number between two dots is that of the layer.
        number = NUMBER.search(name)
        key = _key(name)
        layers, total = found.setdefault(key, ([], 0))
        if number:
            layers.append(int(number[1]))
        found[key] = (layers, total + count)
    rows = [(str(message("module")), str(message("layers")), str(message("parameters")), str(message("share")))]
    rows += [(key, ranges(layers), f"{total:,}", f"{total / whole:.2%}") for key, (layers, total) in found.items()]
    widths = [max(count_cells(row[i]) for row in rows) for i in range(4)]
    lines = []
    for row in rows:
        left = [pad(cell, width) for cell, width in zip(row[:2], widths[:2], strict=True)]
        right = [" " * (width - count_cells(cell)) + cell for cell, width in zip(row[2:], widths[2:], strict=True)]
        lines.append("  " + "  ".join([*left, *right]))
    return "\n".join(lines)


def _key(name: str) -> str:
    kind = next((f" ({k})" for k in ("lora", "oft", "ia3", "vera") if f".{k}_" in name), "")
    inner = NUMBER.split(name)[-1] if NUMBER.search(name) else name
    parts = [p for p in get_plain_name(inner).split(".") if p not in OWN_PARTS and p != "model"]
    return ".".join(p for p in parts if not p.startswith(("lora_", "oft_", "ia3_", "vera_"))) + kind


def ranges(numbers: list[int]) -> str:
    """`[0, 1, 2, 5]` as `0-2,5`; empty for none."""
    found: list[list[int]] = []
    for n in sorted(set(numbers)):
        if found and n == found[-1][1] + 1:
            found[-1][1] = n
        else:
            found.append([n, n])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in found)
