"""Finds the names of other trainers: by name, by parameter of ours, and by likeness."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from functools import cache

from fulgurite.foreign_names import board, hugging_face, llama_factory, trainers
from fulgurite.foreign_names.entry import ForeignName, normalize_name


def list_names() -> tuple[ForeignName, ...]:
    """Returns every foreign name of every owner."""
    return (*llama_factory.NAMES, *hugging_face.NAMES, *trainers.NAMES, *board.NAMES)


def find_names(word: str) -> tuple[ForeignName, ...]:
    """Returns the foreign names that `word` is, of every owner; of a dotted word the last part counts.

    Signs before a word (`--learning-rate`), letter case, spaces and full-width letters make no difference.
    """
    word = word.lstrip("-+~").strip()
    found = _index().get(normalize_name(word), ())
    return found or _index().get(normalize_name(word.rsplit(".", 1)[-1]), ())


def list_foreign_names(path: str) -> list[tuple[str, str]]:
    """Returns owners and foreign names of a parameter (`optim.lr`), group (`method`) or option (`method=qlora`)."""
    return list(_index_targets().get(path, ()))


def list_candidates() -> list[str]:
    """Returns every foreign name once, as it is written."""
    return sorted({entry.name for entry in list_names()})


def find_similar(word: str, known: Iterable[str], most: int = 3) -> list[str]:
    """Returns the known words that `word` may be a misspelling of, best first.

    Two words are alike if few letters differ: one in five letters, and at least one. Without that limit
    `gradient_clipping` would be answered with `gradient_checkpointing`.
    """
    names = {name.lower(): name for name in sorted(set(known), reverse=True)}
    close = difflib.get_close_matches(word.lower(), names, n=4 * most, cutoff=0.6)
    alike = [name for name in close if count_edits(word.lower(), name) <= max(1, min(len(word), len(name)) // 5)]
    return [names[name] for name in alike if min(len(word), len(name)) > 1][:most]


def find_containing(word: str, known: Iterable[str], most: int = 3) -> list[str]:
    """Returns the known names whose last part has every part of `word`, or all of whose parts `word` has.

    `warmup` is a part of `scheduler.warmup_ratio`; `use_gradient_checkpointing` has `gradient_checkpointing`.
    """
    parts = _split(word)
    found = []
    for name in sorted(set(known)):
        own = _split(name.rsplit(".", 1)[-1])
        # one part is enough if it is what was asked for; a word with more than the name has needs two in common
        if parts and own and ((parts <= own and max(map(len, parts)) > 3) or (own <= parts and len(own) > 1)):
            found.append((abs(len(own) - len(parts)), name))
    return [name for _, name in sorted(found)][:most]


def count_edits(one: str, other: str) -> int:
    """Returns how many letters must be inserted, removed, changed or swapped with their neighbour between two words."""
    last: list[int] = []
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        before, last, row = last, row, [i]
        for j, b in enumerate(other, 1):
            row.append(min(last[j] + 1, row[-1] + 1, last[j - 1] + (a != b)))
            if i > 1 and j > 1 and a == other[j - 2] and b == one[i - 2]:
                row[j] = min(row[j], before[j - 2] + 1)
    return row[-1]


def _split(name: str) -> set[str]:
    return set(re.split(r"[^a-z0-9]+", name.lower())) - {""}


@cache
def _index() -> dict[str, tuple[ForeignName, ...]]:
    found: dict[str, list[ForeignName]] = {}
    for entry in list_names():
        found.setdefault(normalize_name(entry.name), []).append(entry)
    return {name: tuple(entries) for name, entries in found.items()}


@cache
def _index_targets() -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    for entry in list_names():
        for target in entry.targets:
            found.setdefault(target, []).append((entry.owner, entry.name))
    return found
