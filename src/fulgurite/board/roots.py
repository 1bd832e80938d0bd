"""The folders that the board may read: those of its command line. Resolves what a browser names, and nothing outside
of them."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fulgurite.board.http_error import HttpError
from fulgurite.errors import ConfigError
from fulgurite.language.message import message
from fulgurite.run.listing import MARKS

LONGEST = 4096
"""Characters of the longest path that is looked at, as in Linux."""
MOST_BYTES = 1 << 20
"""Size of the largest file that `Roots.read_text` reads: configs, not data."""
MOST_ENTRIES = 2000
"""Entries of a folder that are listed."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or folder in a listing; `path` is written as on a command line; `kind` is folder, file, run or model."""

    name: str
    path: str
    kind: str
    size: int | None


class Roots:
    """The folders given on the command line, by their real paths; `base` is the folder that relative paths start at."""

    def __init__(self, folders: Sequence[Path | str] = (), base: Path | None = None) -> None:
        self.base = (base or Path.cwd()).resolve()
        self.folders: tuple[Path, ...] = tuple(dict.fromkeys(self._open(folder) for folder in folders or ["."]))

    def _open(self, folder: Path | str) -> Path:
        path = self.base / Path(folder).expanduser()
        if not path.is_dir():
            raise ConfigError("{path} is not a folder; give a folder with runs and data.", path=folder)
        real = path.resolve()
        if real == Path(real.anchor):
            raise ConfigError("The board does not show the whole disk ({path}); give a folder below it.", path=real)
        return real

    @property
    def names(self) -> list[str]:
        """The folders as one would type them."""
        return [self.shorten(folder) for folder in self.folders]

    def resolve(self, word: str) -> Path:
        """Returns the real path of a file or folder under a root. Raises HttpError: 403 outside of them, 404 if absent.

        `word` is absolute, or relative to the folder in which the board was started or to a root. Parts that begin
        with a dot are never shown: keys and tokens are kept in such files.
        """
        if not word or len(word) > LONGEST or "\\" in word or not word.isprintable():
            raise _refuse()
        given = Path(word)
        if ".." in given.parts:
            raise _refuse()
        # Only the spelling is compared here, so that the answer does not tell what exists outside of the roots.
        candidates = [base / given for base in (self.base, *self.folders)]
        named = [path for path in candidates if self._is_inside(path)]
        if not named:
            raise _refuse()
        for path in dict.fromkeys(named):
            real = _find_real(path)
            if real is None:
                continue
            # A link may lead out, to a device, or to a hidden file; `runs_evil` is no part of `runs`.
            if not self._is_inside(real) or not _is_plain(real):
                raise _refuse()
            return real
        raise HttpError(404, message("There is no such file or folder."))

    def contains(self, path: Path) -> bool:
        """Returns whether the real path of a file or folder is under a root."""
        real = _find_real(path)
        return real is not None and self._is_inside(real)

    def allows(self, path: Path) -> bool:
        """Returns whether a path leads to a place under a root; nothing need be there yet."""
        try:
            return self._is_inside((self.base / path).resolve())
        except (OSError, RuntimeError, ValueError):
            return False

    def _is_inside(self, path: Path) -> bool:
        for folder in self.folders:
            if path == folder:
                return True
            if path.is_relative_to(folder):
                return not any(part.startswith(".") for part in path.relative_to(folder).parts)
        return False

    def read_text(self, word: str, most: int = MOST_BYTES) -> str:
        """Returns the text of a small file under a root. Raises HttpError."""
        real = self.resolve(word)
        if not real.is_file():
            raise HttpError(422, message("{name} is not a file.", name=real.name))
        # The path was real a moment ago: a link that took its place since then is not followed.
        try:
            handle = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            raise _refuse() from None
        with os.fdopen(handle, "rb") as stream:
            found = os.fstat(stream.fileno())
            if not stat.S_ISREG(found.st_mode) or not self._is_opened_inside(handle):
                raise _refuse()
            if found.st_size > most:
                raise HttpError(422, message("{name} is too large to open here.", name=real.name))
            try:
                return stream.read(most + 1).decode("utf-8")
            except UnicodeDecodeError:
                raise HttpError(422, message("{name} is not text in UTF-8.", name=real.name)) from None

    def _is_opened_inside(self, handle: int) -> bool:
        """Returns whether an open file is under a root: also if a folder above it was replaced by a link meanwhile."""
        link = Path(f"/proc/self/fd/{handle}")
        return not link.exists() or self.contains(link)  # only Linux shows it

    def list_folder(self, word: str = "") -> tuple[Path, list[Entry]]:
        """Returns a folder under a root, the first root by default, and what is in it, folders first."""
        folder = self.resolve(word) if word else self.folders[0]
        if not folder.is_dir():
            raise HttpError(422, message("{name} is not a folder.", name=folder.name))
        try:
            entries = list(self._list_entries(folder))
        except OSError:
            raise _refuse() from None
        entries.sort(key=lambda entry: (entry.kind == "file", entry.name.lower()))
        return folder, entries[:MOST_ENTRIES]

    def _list_entries(self, folder: Path) -> Iterator[Entry]:
        with os.scandir(folder) as found:
            for item in found:
                path = Path(item.path)
                # Names that `resolve` would refuse are not offered.
                if item.name.startswith(".") or not item.name.isprintable() or "\\" in item.name:
                    continue
                if (item.is_symlink() and not self.contains(path)) or not _is_plain(path):
                    continue
                yield Entry(item.name, self.shorten(path), _find_kind(path), None if item.is_dir() else
                            item.stat().st_size)

    def find_root(self, path: Path) -> tuple[int, str]:
        """Returns the number of the root above a path, and the path relative to it; `.` is the root."""
        # The innermost one, if one root is inside another.
        above = [(len(root.parts), n) for n, root in enumerate(self.folders) if path.is_relative_to(root)]
        if not above:
            raise _refuse()
        number = max(above)[1]
        return number, str(path.relative_to(self.folders[number]))

    def shorten(self, path: Path) -> str:
        """Returns a path as one would type it: relative to the folder in which the board was started, if it is below
        it."""
        return str(path.relative_to(self.base)) if path.is_relative_to(self.base) else str(path)


def make_run_id(folder: Path) -> str:
    """Returns the id of a run folder for addresses: 16 hexadecimal digits of its real path, which reveal nothing."""
    return hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]


def _refuse() -> HttpError:
    return HttpError(403, message("The board only shows what is in the folders given on its command line."))


def _find_real(path: Path) -> Path | None:
    """Returns the real path of what exists; nothing for a dangling link, a loop, or a name that is too long."""
    try:
        return path.resolve(strict=True)
    except (OSError, RuntimeError, ValueError):
        return None


def _is_plain(path: Path) -> bool:
    """Returns whether a path is a file or a folder: reading a device or a pipe may never end."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def _find_kind(path: Path) -> str:
    if not path.is_dir():
        return "file"
    if any((path / mark).is_file() for mark in MARKS):
        return "run"
    if (path / "config.json").is_file() or (path / "adapter_config.json").is_file():
        return "model"
    return "folder"
