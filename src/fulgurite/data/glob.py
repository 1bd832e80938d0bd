"""Paths that a pattern matches, in bounded time whatever links lead where."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from fnmatch import translate
from pathlib import Path
from stat import S_ISDIR

MAGIC = re.compile(r"[*?[]")


def match_paths(pattern: Path) -> list[Path]:
    """The paths that a pattern matches: `*`, `?`, `[...]`, and `**` for any folders.

    A name with a dot in front is matched by one alone.

    Works level by level and looks into each folder once a level, so that rings of links end. glob.glob would follow
    them without end.
    """
    found = [Path(pattern.anchor)]
    parts = pattern.parts[1:] if pattern.anchor else pattern.parts
    for number, part in enumerate(parts, 1):
        if part == "**":
            found = _walk_below(found)
            if number == len(parts):
                found += [
                    entry
                    for folder in found
                    for entry in _list_entries(folder)
                    if _is_shown(entry.name, part) and not entry.is_dir()
                ]
        elif MAGIC.search(part):
            fits = re.compile(translate(part)).match
            folders = _drop_repeated(found)
            found = [
                entry
                for folder in folders
                for entry in _list_entries(folder)
                if fits(entry.name) and _is_shown(entry.name, part)
            ]
        else:
            found = [folder / part for folder in found if os.path.lexists(folder / part)]
    return found


def _walk_below(folders: Iterable[Path]) -> list[Path]:
    """The folders and all folders in them, each once, whatever links lead there."""
    seen: set[tuple[int, int]] = set()
    waiting, found = list(folders), []
    while waiting:
        folder = waiting.pop(0)
        if (key := _identify(folder)) is None or key in seen:
            continue
        seen.add(key)
        found.append(folder)
        waiting += [entry for entry in _list_entries(folder) if _is_shown(entry.name, "**")]
    return found


def _drop_repeated(folders: Iterable[Path]) -> list[Path]:
    """The folders among the paths, each once."""
    return list({key: folder for folder in reversed(list(folders)) if (key := _identify(folder)) is not None}.values())


def _identify(folder: Path) -> tuple[int, int] | None:
    """What tells a folder from all others, or None if it is none that can be read."""
    try:
        return (stat.st_dev, stat.st_ino) if S_ISDIR((stat := folder.stat()).st_mode) else None
    except OSError:
        return None


def _list_entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _is_shown(name: str, part: str) -> bool:
    return not name.startswith(".") or part.startswith(".")
