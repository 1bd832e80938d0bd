"""Keeps the worker inside the folders of the board."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fulgurite.board.draft_guard import IsAllowed
from fulgurite.errors import DataError


def refuse_outside(files: Sequence[Path], is_allowed: IsAllowed, shipped: bool) -> None:
    """Raises DataError if a data file is outside the board's folders, such as the target of a link in one of them."""
    outside = [] if shipped else [path for path in files if not is_allowed(path)]
    if outside:
        raise DataError("{path} leads out of the folders of this board.", path=outside[0])
