"""Finds the paths that a pattern matches, in bounded time even if links form a loop."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from fnmatch import translate
from pathlib import Path
from stat import S_ISDIR

MAGIC = re.compile(r"[*?[]")


def match_paths(pattern: Path) -> list[Path]:
    """Returns the paths that a pattern matches: `*`, `?`, `[...]`, and `**` for any folders.

    A name that begins with a dot is matched only by a pattern that does. The search goes level by level and reads each
    folder once per level, so that a loop of links ends; glob.glob would follow it without end.
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
            # A pattern within one level: list each folder once.
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
    """Returns the folders and all folders in them, each once, even if several links lead to one."""
    seen: set[tuple[int, int]] = set()
    waiting, found = list(folders), []
    while waiting:
        folder = waiting.pop(0)
        # A link may lead to a folder that was visited already.
        if (key := _identify(folder)) is None or key in seen:
            continue
        seen.add(key)
        found.append(folder)
        waiting += [entry for entry in _list_entries(folder) if _is_shown(entry.name, "**")]
    return found


def _drop_repeated(folders: Iterable[Path]) -> list[Path]:
    """Returns the folders among the paths, each once."""
    return list({key: folder for folder in reversed(list(folders)) if (key := _identify(folder)) is not None}.values())


def _identify(folder: Path) -> tuple[int, int] | None:
    """Returns the device and inode of a folder, or None if the path is not a readable folder."""
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
