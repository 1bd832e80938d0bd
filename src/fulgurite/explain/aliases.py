"""The other names of a parameter, an option or a group, for the search of the guide."""

from __future__ import annotations

from functools import cache

from fulgurite.config.renamed import list_earlier_names
from fulgurite.foreign_names.table import list_foreign_names


@cache
def list_aliases(path: str) -> tuple[str, ...]:
    """Returns the names that other tools have for a parameter, an option or a group, and its earlier ones here."""
    elsewhere = [name for _, name in list_foreign_names(path)]
    return tuple(dict.fromkeys([*elsewhere, *list_earlier_names(path)]))
