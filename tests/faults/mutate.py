"""Seeded mutations of valid files: bytes that are flipped, cut, inserted or doubled, and values that change their
type."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

DEEP: Any = json.loads("[" * 70 + "]" * 70)
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 7, 0.5, -0.0, 1e308, -1e308, 10**9, 10**12, 10**30, -(2**63), float("nan"),
    float("inf"),
    "", " ", "x", "7", "\0", "\ud800", "\udc80", "\u2028", "\x1b[31m", "<|im_end|>", "../../etc/passwd", "os.system",
    "{{ 1 / 0 }}", "{% for i in range(10**9) %}{% endfor %}", "[" * 3000, '[{"broken', '{"a": ' * 200, "x" * 20_000,
    "9" * 5000,
    [], {}, [[]], [None], [7], ["x"], [{}], {"a": 1}, {"": ""}, {"role": "user"}, {"content": 7}, DEEP,
    {str(n): n for n in range(2000)}, list(range(2000)),
]
"""What takes the place of a value."""
SNIPPETS = [
    b"\0", b"\xff", b"\xfe\xff", b"\xed\xa0\x80", b'"', b"'", b",", b"\\", b"\n", b"\r", b"\r\n", b"\n\n\n", b"[", b"]",
    b"{", b"}", b":",
    b"[" * 200, b"{" * 5000, b'{"a":' * 3000, b"9" * 6000, b"1e999", b"NaN", b"-", b"\\ud800", b"\\u0000", b"\\",
    b"PAR1", b"ARROW1",
    b"\x1f\x8b", b"\x80\x04", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x00\x00\x00\x80", b" " * 1000,
    b"\xe2\x80\xa8", b"\x1b]0;x\x07",
]
"""Bytes that are inserted, or written over others."""


def mutate_bytes(whole: bytes, chance: random.Random) -> bytes:
    """Returns `whole` after one to four changes of its bytes."""
    changed = bytearray(whole)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(changed) + 1)
        some = min(len(changed), at + chance.choice((1, 2, 4, 8, 64, 1000)))
        kind = chance.randrange(7)
        if kind == 0 and changed:
            changed[at % len(changed)] ^= 1 << chance.randrange(8)
        elif kind == 1 and changed:
            changed[at % len(changed)] = chance.randrange(256)
        elif kind == 2:
            del changed[at:some]
        elif kind == 3:
            del changed[at:]
        elif kind == 4:
            changed[at:at] = changed[at:some]
        elif kind == 5:
            changed[at:at] = chance.choice(SNIPPETS)
        else:
            snippet = chance.choice(SNIPPETS)[:64]
            changed[at : at + len(snippet)] = snippet
    return bytes(changed)


def mutate_value(value: Any, chance: random.Random) -> Any:
    """Returns a copy of a JSON value after one to three changes: a value swapped, left out, doubled or moved, a key
    renamed or added."""
    changed = copy.deepcopy(value)
    for _ in range(chance.randint(1, 3)):
        places = list(_places(changed))
        if not places:
            return chance.choice(VALUES)
        inside, key = chance.choice(places)
        kind = chance.randrange(8)
        if kind == 0:
            del inside[key]
        elif kind == 1 and isinstance(inside, dict):
            inside[chance.choice(("", "id", "x" * 300, "\x1b[2J", "a\nb", key.upper(), f"{key} "))] = inside.pop(key)
        elif kind == 2 and isinstance(inside, list):
            inside.insert(key, copy.deepcopy(inside[key]))
        elif kind == 3:
            other, name = chance.choice(places)
            inside[key] = copy.deepcopy(other[name]) if _holds(other, name) else None
        elif kind == 4:
            inside[key] = [inside[key]]
        elif kind == 5:
            inside[key] = {"value": inside[key]}
        else:
            inside[key] = copy.deepcopy(chance.choice(VALUES))
    return changed


def mutate_number(value: Any, chance: random.Random) -> Any:
    """Returns a copy of a JSON value in which one number is another one: of another sign, zero, odd, or far too
    large."""
    changed = copy.deepcopy(value)
    places = [(inside, key) for inside, key in _places(changed) if isinstance(inside[key], int | float)]
    if places:
        inside, key = chance.choice(places)
        inside[key] = chance.choice(
            (0, -1, 1, 3, 7, 1000, 10**5, 10**7, 10**9, 10**12, 10**18, 10**40, 1e308, 0.5, -1e9, "7", None, True)
        )
    return changed


def as_json(value: Any) -> bytes:
    """Returns a JSON value as bytes; half of a surrogate pair is written as its escape."""
    return json.dumps(value).encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every list or object in a value, with each index or key of it."""
    waiting = [value]
    while waiting:
        inside = waiting.pop()
        keys = list(inside) if isinstance(inside, dict) else range(len(inside)) if isinstance(inside, list) else ()
        for key in list(keys)[:200]:
            yield inside, key
            waiting.append(inside[key])


def _holds(inside: Any, key: Any) -> bool:
    return key in inside if isinstance(inside, dict) else key < len(inside)
