"""Writes files and folders that others may open at any time: a reader finds the old content or the new one, never a
part of it.

Everything is written to a draft beside its place (`<name>.tmp-<pid>`), which is then renamed. With `durable` it is on
the disk before it is renamed (fsync of files and folders): what must survive a power cut is a checkpoint, not a log.

Alternatives: Lightning's `_atomic_save` (not atomic if $TMPDIR is another file system, no fsync) and the package
`atomicwrites` (single files, archived). Neither writes folders.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from fulgurite.errors import RequestError
from fulgurite.language.library_errors import translate_system_error

PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700
"""Modes of a run's files and folders, which may contain its data or a secret: only the owner reads them, whatever the
umask.
"""

_DRAFT = re.compile(r"(?P<name>.+)\.tmp-(?:old-)?[0-9]+")
"""The name of a draft, or of a folder that is being removed: the final name, and the process that writes."""


def name_draft(path: Path) -> Path:
    """Returns the path of the draft that this process writes of a file or folder."""
    return path.with_name(f"{path.name}.tmp-{os.getpid()}")


@contextlib.contextmanager
def replace_file(path: Path, durable: bool = False) -> Iterator[Path]:
    """Yields a draft to write to; at the end of the block it replaces the file, whose mode it takes.

    If the block or the disk fails, the old file stays as it was, and no draft is left. Raises OSError.
    """
    draft = name_draft(path)
    try:
        yield draft
        # the new file is a new inode, with the mode of the draft
        if path.is_file():
            draft.chmod(stat.S_IMODE(path.stat().st_mode))
        if durable:
            sync(draft)
        os.replace(draft, path)
        # The rename itself survives a power cut only after the folder is synced.
        if durable:
            sync(path.parent)
    # BaseException: an interrupt must not leave a draft either.
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise


def write_file(path: Path, content: str | bytes, durable: bool = False) -> None:
    """Writes a whole file. A new file is private; a file that was shared on purpose keeps its mode. Raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    with replace_file(path, durable) as draft, os.fdopen(os.open(draft, flags, PRIVATE_FILE), "wb") as stream:
        stream.write(content.encode() if isinstance(content, str) else content)


def write_output(path: Path, content: str | bytes) -> None:
    """Writes a whole file that the command must deliver. Raises RequestError, not OSError, if the disk refuses."""
    try:
        write_file(path, content)
    except OSError as error:
        raise RequestError(
            "{path} cannot be written: {reason}; free space there, or give a folder that can be written.",
            path=path, reason=translate_system_error(error),
        ) from error


@contextlib.contextmanager
def write_folder(
    path: Path, *, durable: bool = False, mode: int = 0o777, keep: Callable[[], bool] | None = None
) -> Iterator[Path]:
    """Yields an empty draft folder to fill; at the end of the block it takes its place, and replaces a folder of that
    name.

    A folder that another process has put there in the meantime stays if `keep()` is true of it. If the block or the
    disk fails, the old folder stays as it was, and no draft is left. Raises OSError.
    """
    draft = name_draft(path)
    try:
        path.parent.mkdir(mode, parents=True, exist_ok=True)
        if draft.exists():  # of a killed process with the same number
            shutil.rmtree(draft)
        draft.mkdir(mode)
        yield draft
        if durable:
            sync(draft)
        if keep is not None and path.exists() and keep():
            shutil.rmtree(draft)
        else:
            publish_folder(draft, path, durable)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def publish_folder(draft: Path, path: Path, durable: bool = False) -> None:
    """Renames a draft folder to its final name; an older folder of that name is removed, or put back if this fails."""
    # A folder cannot be replaced in one step, as a file can: the old one is moved aside, and back if the new one cannot
    # take its place.
    old = _name_old(path)
    if path.exists():
        path.rename(old)
    try:
        draft.rename(path)
    except OSError:
        if old.exists() and not path.exists():
            old.rename(path)
        raise
    if durable:
        sync(path.parent)
    if old.exists():
        shutil.rmtree(old)


def remove_folder(path: Path) -> None:
    """Removes a folder; it is renamed first, so that nobody reads a folder that is half removed. Raises OSError."""
    old = _name_old(path)
    path.rename(old)
    shutil.rmtree(old)


def replace_link(link: Path, target: Path) -> None:
    """Makes `link` a relative link to `target`, which is in the same folder; replaces an older link in one step."""
    draft = name_draft(link)
    # symlink_to refuses an existing name: a killed process with the same number may have left its draft.
    draft.unlink(missing_ok=True)
    draft.symlink_to(target.name, target_is_directory=True)
    draft.replace(link)
    sync(link.parent)


def sync(path: Path) -> None:
    """Waits until the disk has a file, or the entries of a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_drafts(folder: Path, name: str | None = None, older_than: float | None = None) -> list[str]:
    """Removes the drafts that killed processes left in a folder (only of `name`, if given), and returns their names.

    Nobody may be writing there: the caller holds the lock of the folder or of the name. If there is no lock,
    `older_than` leaves drafts that were written to within so many seconds. A draft that cannot be removed stays: it
    disturbs nobody.
    """
    removed = []
    with contextlib.suppress(OSError):
        for path in sorted(folder.iterdir()):
            found = _DRAFT.fullmatch(path.name)
            if found is None or name not in (None, found["name"]) or _is_younger(path, older_than):
                continue
            with contextlib.suppress(OSError):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
                removed.append(path.name)
    return removed


def _is_younger(path: Path, seconds: float | None) -> bool:
    """Returns whether a draft, or a file in it, was written to within the last seconds."""
    if seconds is None:
        return False
    # a folder's own time does not change when a file in it grows
    times = [part.lstat().st_mtime for part in (path, *path.glob("*")) if part.exists()]
    # Without times its writer has just renamed or removed the draft: it counts as new.
    return not times or max(times) >= time.time() - seconds


def _name_old(path: Path) -> Path:
    return path.with_name(f"{path.name}.tmp-old-{os.getpid()}")
