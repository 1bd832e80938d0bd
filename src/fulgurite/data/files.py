"""Finds the files of a dataset: paths, patterns, folders, folders saved by HF datasets, hub ids."""

from __future__ import annotations

import errno
import re
from pathlib import Path
from typing import Any

from fulgurite.data.glob import match_paths
from fulgurite.errors import DataError, find_nearest
from fulgurite.files.json import read_object
from fulgurite.language.library_errors import translate_error, translate_system_error
from fulgurite.language.message import UserMessage, message

KINDS = {
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".txt": "text",
    ".text": "text",
}
METADATA = frozenset({"dataset_info.json", "dataset_infos.json"})
"""Files beside data that describe them, of HF datasets and LLaMA-Factory."""
SPLIT = re.compile(r"(train|test|validation|valid|val|dev|eval)(?=[-_.])", re.IGNORECASE)
"""The beginning of the name of a file with one split of a dataset, such as train-00000-of-00002.parquet."""
HUB = "hub:"
HUB_ID = re.compile(r"(?:https?://huggingface\.co/datasets/|hf://datasets/|hf:)?([\w-][\w.-]*/[\w-][\w.-]*)/?")
"""A dataset of the hub as people write it."""


def find_files(paths: list[str], knob: str = "data.path") -> list[list[Path]]:
    """Returns the files of each word, in order. Raises DataError if a word matches no file, or a file is given twice.
    """
    found = [_list_named(word, knob) for word in paths]
    seen: set[Path] = set()
    for path in (p for group in found for p in group):
        if guess_kind(path) is None:
            raise DataError(
                "{path}: the extension {extension!r} is not supported; supported are {known}, each also with .gz.",
                path=path, extension=path.suffix, known=", ".join(KINDS),
            )
        if (place := path.resolve()) in seen:
            raise DataError(
                "{path} is given twice in {knob}; give it once, and raise data.weights to use it more often.",
                path=path, knob=knob,
            )
        seen.add(place)
    return found


def guess_kind(path: Path) -> str | None:
    """Returns json, jsonl, csv, tsv, parquet, arrow or text by the extension, or None."""
    # data.jsonl.gz is JSONL, gzipped.
    endings = path.suffixes[-2:]
    if endings and endings[-1] == ".gz":
        endings = endings[:-1]
    return KINDS.get(endings[-1].lower()) if endings else None


def _list_named(word: str, knob: str) -> list[Path]:
    if word.startswith(HUB):
        return _download_hub(word)
    if "\0" in word:
        raise DataError(
            "{knob}={word}: a path cannot contain a NUL character; give a file or a folder.", knob=knob, word=word
        )
    path = Path(word).expanduser()
    _refuse_unreachable(path, knob)
    if path.is_dir():
        return _list_folder(path, knob)
    if path.is_file():
        return [path]
    if path.exists():
        raise DataError(
            "{knob}={word} is a device or a pipe, which cannot be read twice; give a file or a folder.",
            knob=knob, word=word,
        )
    if path.is_symlink():
        raise DataError(
            "{knob}={word} is {found}; correct the link, or give a file or a folder.",
            knob=knob, word=word, found=_describe_path(path),
        )
    # Not a file or folder: treat the word as a pattern.
    found = sorted(match_paths(path))
    matched = [p for p in found if p.is_file()]
    _refuse_unreadable(found, f"{knob}={word}")
    if not matched:
        hint = _suggest_hub(word, knob) or _suggest_near(path)
        raise DataError("{knob}={word}: there is no such file.{hint}", knob=knob, word=word, hint=hint)
    return matched


def _suggest_hub(word: str, knob: str) -> UserMessage:
    """Returns the words that load a dataset from the hub, if `word` looks like the name of one."""
    named = HUB_ID.fullmatch(word)
    if not named or guess_kind(Path(word)) is not None or Path(word).parent.is_dir():
        return UserMessage()
    return message(" For the dataset of the hub, write {knob}={hub}{name}.", knob=knob, hub=HUB, name=named[1])


def _refuse_unreadable(found: list[Path], what: str) -> None:
    """Raises DataError if a path has the extension of a data file but is not a file: it would be left out unnoticed."""
    for path in found:
        if guess_kind(path) is not None and not path.is_file() and not path.name.startswith("."):
            facts = {"what": what, "name": path.name, "found": _describe_path(path)}
            if path.is_dir():
                raise DataError(
                    "{what}: {name} is {found}; give the files in it, or change its extension.", **facts
                )
            raise DataError("{what}: {name} is {found}; remove it, or give the files one by one.", **facts)


KINDS_OF_PATH = {
    "is_dir": message("a folder"),
    "is_fifo": message("a pipe"),
    "is_socket": message("a socket"),
    "is_char_device": message("a device"),
    "is_block_device": message("a device"),
}
"""Descriptions of paths that are not files, by the method of Path that is true for them."""


def _describe_path(path: Path) -> UserMessage:
    """Describes a path that is not a file."""
    if not path.exists():
        try:
            target = path.readlink()
        except OSError:
            return message("missing")
        if _is_ring(path):
            return message("a link to {target} in a loop of links", target=target)
        return message("a link to {target}, which does not exist", target=target)
    kind = next((found for test, found in KINDS_OF_PATH.items() if getattr(path, test)()), message("not a file"))
    return message("a link to {kind}", kind=kind) if path.is_symlink() else kind


def _is_ring(path: Path) -> bool:
    """Returns whether the links of a path form a loop."""
    try:
        path.stat()
    except OSError as error:
        return error.errno == errno.ELOOP
    return False


def _refuse_unreachable(path: Path, knob: str) -> None:
    """Raises DataError if a path leads into a loop of links, or may not be read."""
    try:
        path.stat()
    except OSError as error:
        if _is_ring(path):
            raise DataError(
                "{knob}={path} is a loop of links that leads to no file; give the file itself.", knob=knob, path=path
            ) from error
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise DataError(
                "{knob}={path} cannot be read: {reason}.", knob=knob, path=path, reason=translate_system_error(error)
            ) from error


def _suggest_near(path: Path) -> UserMessage:
    names = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    close = find_nearest(path.name, names, 1)
    return message(" Did you mean {name}?", name=path.parent / close[0]) if close else UserMessage()


def _list_folder(path: Path, knob: str) -> list[Path]:
    """Returns the data files directly in a folder; of a folder that HF datasets' save_to_disk wrote, those of its train
    split."""
    # A DatasetDict: use its train split, or its only one.
    if (path / "dataset_dict.json").is_file():
        splits = _list_entries(path / "dataset_dict.json", "splits")
        if not all(isinstance(split, str) and split and Path(split).name == split for split in splits):
            raise DataError(
                "{path}/dataset_dict.json: field 'splits': a split does not have a plain name; save the dataset again "
                "with save_to_disk.",
                path=path,
            )
        if "train" not in splits and len(splits) != 1:
            raise DataError(
                "{knob}={path}: expected a split train, found {splits}; choose one: {knob}={choice}.",
                knob=knob, path=path, splits=", ".join(splits), choice=path / splits[0],
            )
        # Only the last part of the name is used, so that nothing outside the folder is opened.
        return _list_folder(path / Path("train" if "train" in splits else splits[0]).name, knob)
    # A Dataset: state.json lists its Arrow files in order.
    if (path / "state.json").is_file():
        state = _list_entries(path / "state.json", "_data_files")
        if not all(isinstance(file, dict) and isinstance(file.get("filename"), str) for file in state):
            raise DataError(
                "{path}/state.json: field '_data_files': a file has no name; save the dataset again with save_to_disk.",
                path=path,
            )
        files = [path / Path(file["filename"]).name for file in state]
        if gone := next((file for file in files if not file.is_file()), None):
            raise DataError(
                "{path}/state.json lists {name}, which is not in the folder; save the dataset again with save_to_disk.",
                path=path, name=gone.name,
            )
        return files
    listed = sorted(path.iterdir())
    _refuse_unreadable(listed, f"{knob}={path}")
    inside = [
        p
        for p in listed
        if p.is_file() and not p.name.startswith(".") and guess_kind(p) is not None and p.name not in METADATA
    ]
    if not inside:
        below = sorted(p.name for p in path.iterdir() if p.is_dir())
        hint = UserMessage()
        if below:
            hint = message(" To read a folder in it, write {knob}={folder}.", knob=knob, folder=path / below[0])
        raise DataError(
            "{knob}={path}: the folder has no file of a supported type ({known}).{hint}",
            knob=knob, path=path, known=", ".join(KINDS), hint=hint,
        )
    _refuse_splits(inside, path, knob)
    return inside


def _refuse_splits(files: list[Path], folder: Path, knob: str) -> None:
    """Raises DataError if a folder has a training split and a split for evaluation, which would be trained on too."""
    splits = {found[1].lower(): file for file in files if (found := SPLIT.match(file.name))}
    other = next((split for split in splits if split != "train"), None)
    if "train" in splits and other is not None:
        train, val = ("".join([name, "*", "".join(splits[name].suffixes[-2:])]) for name in ("train", other))
        raise DataError(
            "{knob}={folder}: found the splits {train} and {other} in one folder; choose one for training, "
            "{knob}={train_path}, and for example data.val_path={val_path}.",
            knob=knob, folder=folder, train=splits["train"].name, other=splits[other].name,
            train_path=folder / train, val_path=folder / val,
        )


def _list_entries(path: Path, field: str) -> list[Any]:
    try:
        listed = read_object(path)[field]
        if listed and isinstance(listed, list):
            return listed
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise DataError(
        "{path}: field '{field}': expected a list of files; save the dataset again with save_to_disk.",
        path=path, field=field,
    )


def _download_hub(word: str) -> list[Path]:
    """Downloads a dataset of the hub with HF datasets, `hub:owner/name` or `hub:owner/name:split`; returns its Arrow
    files."""
    name, _, split = word.removeprefix(HUB).partition(":")
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise DataError(
            "data.path={word} needs the library datasets, which is not installed: pip install datasets.", word=word
        ) from error
    try:
        loaded = load_dataset(name, split=split or "train")
    except Exception as error:  # datasets raises errors of many types for a malformed repository
        raise DataError(
            "data.path={word}: the hub has no such dataset, or cannot be reached ({reason}); download the dataset, and "
            "give its folder.",
            word=word, reason=translate_error(error, 600),
        ) from error
    return [Path(file["filename"]) for file in loaded.cache_files]
