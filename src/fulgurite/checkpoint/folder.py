"""Checkpoint folders, which are either whole or absent: written beside their place, confirmed by a manifest, then
renamed.

Nothing that the manifest does not list is ever read.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fulgurite.errors import TrainingFailed
from fulgurite.files import atomic
from fulgurite.files.atomic import PRIVATE_FILE, PRIVATE_FOLDER
from fulgurite.files.manifest import find_damage, write_manifest
from fulgurite.language.library_errors import translate_system_error
from fulgurite.language.message import UserMessage, message

PARTS = ("weights.safetensors", "optimizer.safetensors", "state.safetensors", "state.json")
"""The files without which a resumed run would differ from an uninterrupted one. Instead of each of the first two there
may be one for each process: see `stored.py`."""
SPLIT = ("weights", "optimizer")
"""The files that may be divided."""
SLACK = 1 << 16
"""Bytes of free space for headers, the manifest and the folder itself."""
_STEP = re.compile(r"step-(\d+)")
_PART = re.compile(rf"({'|'.join(SPLIT)})-\d{{5}}-of-(\d{{5}})\.safetensors")


def name_step(step: int) -> str:
    """Returns the name of the folder of a checkpoint after `step` optimizer steps."""
    return f"step-{step}"


def parse_step(path: Path) -> int | None:
    """Returns the step in a folder's name, or None if the name is not that of a checkpoint."""
    match = _STEP.fullmatch(path.name)
    return int(match.group(1)) if match else None


def list_steps(folder: Path) -> list[int]:
    """Returns the steps of all checkpoint folders, whole or not, in ascending order."""
    if not folder.is_dir():
        return []
    found = (parse_step(path) for path in folder.iterdir() if path.is_dir())
    return sorted(step for step in found if step is not None)


@contextlib.contextmanager
def write_checkpoint(final: Path, needed: int, known: Mapping[str, Mapping[str, Any]] | None = None) -> Iterator[Path]:
    """Yields a draft folder to fill with files; at the end of the block it is on the disk, and in its place.

    `needed` is the size in bytes. `known` may get the entries of the manifest for files that other processes write and
    sync; it is read at the end of the block. If the disk refuses, raises TrainingFailed, and what was there before
    stays as it was.
    """
    try:
        final.parent.mkdir(PRIVATE_FOLDER, parents=True, exist_ok=True)
        # Asked before writing; a quota or another writer is caught by OSError below.
        if needed + SLACK > shutil.disk_usage(final.parent).free:
            raise refuse_write(final, message("not enough free disk space"), needed)
        with atomic.write_folder(final, durable=True, mode=PRIVATE_FOLDER) as draft:
            yield draft
            write_manifest(draft, durable=True, known=known)
            for file in draft.iterdir():
                file.chmod(PRIVATE_FILE)
    except OSError as error:
        raise refuse_write(final, translate_system_error(error), needed) from error


def refuse_write(final: Path, reason: UserMessage, needed: int) -> TrainingFailed:
    """Returns the error for a checkpoint of `needed` bytes that the disk refuses."""
    try:
        free = message("{count} bytes", count=shutil.disk_usage(final.parent).free)
    except OSError:
        free = message("an unknown number of bytes")
    return TrainingFailed(
        "{path} could not be written: {reason}. It needs {needed} bytes; free there: {free}. Free some space and "
        "run the same command again: it resumes from the earlier checkpoint, which is intact.",
        path=final, reason=reason, needed=needed, free=free,
    )


def name_part(group: str, number: int, count: int) -> str:
    """Returns the name of a file of parts, as those of transformers are: they count from 1."""
    return f"{group}-{number + 1:05}-of-{count:05}.safetensors"


def list_files(names: Iterable[str], group: str) -> list[str]:
    """Returns the files of a group that a checkpoint with these files must have: one, or one for each process."""
    counts = [int(found[2]) for name in names if (found := _PART.fullmatch(name)) and found[1] == group]
    count = max(counts, default=0)
    return [name_part(group, n, count) for n in range(count)] or [f"{group}.safetensors"]


def find_faults(path: Path) -> list[UserMessage]:
    """Returns what is wrong with a checkpoint folder, a phrase for each fault; an empty list if it is whole."""
    names = [entry.name for entry in path.iterdir()] if path.is_dir() else []
    required = [file for group in SPLIT for file in list_files(names, group)]
    return find_damage(path, required=[*required, *PARTS[len(SPLIT):]])


def find_newest_whole(folder: Path) -> tuple[Path | None, list[tuple[Path, str]]]:
    """Returns the whole checkpoint with the highest step, and those above it that were skipped, with the reason."""
    skipped: list[tuple[Path, str]] = []
    # From the newest back: a damaged one, of a full disk or a killed process, is passed over.
    for step in reversed(list_steps(folder)):
        path = folder / name_step(step)
        faults = find_faults(path)
        if not faults:
            return path, skipped
        skipped.append((path, "; ".join(map(str, faults))))
    return None, skipped


def update_links(folder: Path, last: int, best: int | None) -> None:
    """Makes `best` and then `last` name the checkpoints of these steps: if `last` is right after a crash, so is `best`.
    """
    # `best` first: a run that is killed in between has an old `last`, and _renew_links makes up for that
    for name, step in (("best", best), ("last", last)):
        if step is not None and (folder / name_step(step)).is_dir():
            atomic.replace_link(folder / name, folder / name_step(step))
