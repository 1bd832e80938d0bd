"""The folders of the package's own files; makes relative paths absolute."""

from __future__ import annotations

import glob
import os
from pathlib import Path

from fulgurite.errors import ConfigError

PACKAGE = Path(__file__).resolve().parents[1]


def find_conf_dir() -> Path:
    """The folder of YAML groups: inside an installed package, or at the root of a checkout.
    ConfigError where it is gone."""
    for folder in (PACKAGE / "conf", PACKAGE.parents[1] / "conf"):
        if (folder / "train.yaml").is_file():
            return folder
    raise ConfigError(
        "The folder conf/ is missing beside {PACKAGE}; install fulgurite again.",
        PACKAGE=PACKAGE,
    )


def resolve_path(word: str) -> str:
    """The absolute path of a file or folder that is there; anything else (a hub id, a path to
    nothing) as it was typed."""
    return _make_absolute(Path(word).expanduser()) if word and is_there(word) else word


def resolve_pattern(word: str) -> str:
    """As `resolve_path`; a pattern such as data/*.jsonl counts if it matches something."""
    found = resolve_path(word)
    if found != word or not glob.has_magic(word):
        return found
    try:
        path = Path(word).expanduser()
        matches = next(glob.iglob(str(path), recursive=True), None) is not None
    except (OSError, ValueError, RuntimeError):
        return word
    return _make_absolute(path) if matches else word


def resolve_function(word: str) -> str:
    """As `resolve_path`; of path.py:function the path is made absolute."""
    file, colon, name = word.rpartition(":")
    if colon and file.endswith(".py"):
        return f"{resolve_path(file)}:{name}"
    return resolve_path(word)


def check_run_folder(word: str, parameter: str) -> Path:
    """Returns the folder of a run that `parameter` names. Raises ConfigError if it is not one.

    Reads nothing, so that a wrong folder is refused before torch is loaded.
    """
    folder = Path(word).expanduser()
    if not is_there(word):
        raise ConfigError(
            "{parameter}={path} does not exist; `fulgurite runs` lists runs.", parameter=parameter, path=word
        )
    if not (folder / "config.yaml").is_file():
        raise ConfigError(
            "{parameter}={path} is not a run folder: it has no config.yaml; `fulgurite runs` lists runs.",
            parameter=parameter, path=word,
        )
    return folder


def is_missing_path(word: str) -> bool:
    """Returns whether a word can only be a path (it begins with /, ./, ../ or ~), and nothing is there."""
    return word.startswith(("/", "./", "../", "~")) and not is_there(word)


def is_there(word: str) -> bool:
    """Returns whether a word is the path of a file or folder."""
    try:
        return Path(word).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # too long, with a null character, ~ of nobody
        return False


def _make_absolute(path: Path) -> str:
    """The path from the root, without `..` if that names the same file; links stay, since a file's
    ending may be theirs alone."""
    whole = os.path.join(os.getcwd(), path)
    short = os.path.normpath(whole)
    return short if os.path.realpath(short) == os.path.realpath(whole) else whole
