"""What the page may not set: words that let code run, addresses of databases, and paths outside the board's folders.

On a command line these words are allowed: whoever types them may run anything else as well. A web page may not have
that power, even if the person who sees it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeAlias

from fulgurite.board.typed_values import DraftError, parse_typed
from fulgurite.config.choices import HUB_ID
from fulgurite.config.paths import is_there
from fulgurite.config.schema import Knob
from fulgurite.data.files import HUB, guess_kind
from fulgurite.data.glob import match_paths
from fulgurite.language.message import UserMessage, message

IsAllowed: TypeAlias = Callable[[Path], bool]
FALSE = ("", "false", "no", "off", "0", "null", "none", "[]")
PLACES = ("run_dir", "resume.run")
"""Parameters that hold a path, beside those whose declaration makes it absolute."""
STORAGE = "sweep.storage"
SQLITE = "sqlite:///"
MAGIC = "*?["
MOST_MATCHES = 10_000


def has_code(name: str, text: str) -> bool:
    """Returns whether a value lets code run that is not ours."""
    bare = text.strip().casefold()
    if name.split(".")[0].split("/")[0] == "hydra":
        return True
    if name in ("plugins", "model.trust_remote_code", "model.revision"):
        return bare not in FALSE
    if name in ("launcher.setup", "launcher.options"):
        return bare not in FALSE
    return name == "stage.reward" and (".py" in bare or "${" in bare)


@dataclass(frozen=True, slots=True)
class Guard:
    """Decides about the values of one draft."""

    allow_code: bool
    is_allowed: IsAllowed | None
    """Whether a path is under one of the board's folders; none is if this is None."""

    def check_value(self, knob: Knob, text: str) -> None:
        """Raises DraftError if the page may not set a parameter to this value."""
        if self.allow_code:
            return
        self.check_code(knob.path, text)
        if knob.path == STORAGE:
            self._check_storage(text.strip())
        for path in list_paths(knob, text):
            self.check_path(knob.path, path)

    def check_code(self, name: str, text: str) -> None:
        """Raises DraftError if a value lets code run, and the board was not started with --allow-code."""
        if not self.allow_code and has_code(name, text):
            raise DraftError(
                message(
                    "{name} can let code run, so the page does not set it; to allow it, start the board with "
                    "--allow-code.", name=name,
                ),
                name,
            )

    def check_path(self, name: str, word: str) -> None:
        """Raises DraftError if a path, or a file that a pattern matches, is outside the board's folders."""
        # stops at the first path outside, so that no pattern walks through the whole disk
        if self.is_allowed is None or not all(map(self.is_allowed, _expand(word, name.startswith("data.")))):
            raise DraftError(self._describe_outside(name, word), name)

    def _check_storage(self, text: str) -> None:
        if text and text.casefold() != "null" and not text.startswith(SQLITE):
            raise DraftError(
                message(
                    "{name} is the address of a database, which the page does not open; to allow it, start the board "
                    "with --allow-code.", name=STORAGE,
                ),
                STORAGE,
            )
        if text.startswith(SQLITE):
            self.check_path(STORAGE, text.removeprefix(SQLITE).partition("?")[0])

    def _describe_outside(self, name: str, word: str) -> UserMessage:
        return message(
            "{name}: {path} is outside the folders of this board; to allow it, name its folder too: fulgurite board "
            "{folder}", name=name, path=word[:200], folder=_find_folder(word),
        )


def is_place(knob: Knob) -> bool:
    """Returns whether a parameter names files or folders."""
    return knob.resolve is not None or knob.path in PLACES or "path" in knob.name.split("_")


def list_paths(knob: Knob, text: str) -> list[str]:
    """Returns the paths in what was typed for a parameter; names of the hub and rules of rewards are none."""
    if not is_place(knob):
        return []
    value = parse_typed(knob, text)
    items = value if isinstance(value, list) else [value]
    return [path for item in items if isinstance(item, str) and item and (path := _find_path(knob.path, item))]


def _find_path(name: str, item: str) -> str:
    """Returns the path in one item, empty if it names something else."""
    if name.startswith("data.") and item.startswith(HUB):
        return ""
    if name.startswith(("model.", "stage.reference", "method.adapter_path")) and HUB_ID.fullmatch(item):
        return item if is_there(item) else ""
    if name != "stage.reward":
        return item
    # regex:..., length:... and names of packages are rules, unless there is a file or folder of that name
    file = item.rpartition(":")[0] if ".py:" in item else item
    return file if is_there(file) or "/" in file.partition(":")[0] or file.startswith("~") else ""


def _expand(word: str, follow: bool) -> Iterator[Path]:
    """Yields the path of a word, with `follow` the links in a folder; of a pattern the folder before its first sign,
    then everything that it matches."""
    try:
        path = Path(word).expanduser()
    except RuntimeError:  # ~ of nobody
        path = Path(word)
    yield path
    if follow and path.is_dir():
        # a link in a folder of data may lead anywhere
        yield from islice((p for p in path.iterdir() if p.is_symlink() and guess_kind(p) is not None), MOST_MATCHES)
    if set(MAGIC) & set(word) and not is_there(word):
        parts = path.parts
        cut = next((n for n, part in enumerate(parts) if set(MAGIC) & set(part)), len(parts))
        yield Path(*parts[:cut])
        yield from match_paths(path)


def _find_folder(word: str) -> str:
    try:
        path = Path(word).expanduser().absolute()
        return str(path if path.is_dir() else path.parent)
    except (OSError, ValueError, RuntimeError):
        return "FOLDER"
