"""Which files a data set consists of: paths, patterns, folders, folders saved by HF datasets, hub ids."""

from __future__ import annotations

import errno
import re
from pathlib import Path
from typing import Any

from fulgurite.data.glob import match_paths
from fulgurite.errors import DataError, find_nearest
from fulgurite.files.json import read_object
from fulgurite.text.console import shorten

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
"""How a file begins that has one split of a data set, such as train-00000-of-00002.parquet."""
HUB = "hub:"
HUB_ID = re.compile(r"(?:https?://huggingface\.co/datasets/|hf://datasets/|hf:)?([\w-][\w.-]*/[\w-][\w.-]*)/?")
"""A data set of the hub as people write it."""


def find_files(paths: list[str], knob: str = "data.path") -> list[list[Path]]:
    """The files that each word names, in order. Raises DataError where one names nothing, or a file is named twice."""
    found = [_list_named(word, knob) for word in paths]
    seen: set[Path] = set()
    for path in (p for group in found for p in group):
        if guess_kind(path) is None:
            raise DataError(
                f"{path}: the ending {path.suffix or '(none)'} is not read; there are {', '.join(KINDS)}, "
                "each also with .gz."
            )
        if (place := path.resolve()) in seen:
            raise DataError(
                f"{path} is named twice in {knob}; name it once, and raise data.weights to see it more often."
            )
        seen.add(place)
    return found


def guess_kind(path: Path) -> str | None:
    """json, jsonl, csv, tsv, parquet, arrow or text by the ending, or None."""
    endings = path.suffixes[-2:]
    if endings and endings[-1] == ".gz":
        endings = endings[:-1]
    return KINDS.get(endings[-1].lower()) if endings else None


def _list_named(word: str, knob: str) -> list[Path]:
    if word.startswith(HUB):
        return _download_hub(word)
    if "\0" in word:
        raise DataError(f"{knob}={word}: a path holds no NUL character; give a file or a folder.")
    path = Path(word).expanduser()
    _refuse_unreachable(path, knob)
    if path.is_dir():
        return _list_folder(path, knob)
    if path.is_file():
        return [path]
    if path.exists():
        raise DataError(f"{knob}={word} is a device or a pipe, which cannot be read twice; give a file or a folder.")
    if path.is_symlink():
        raise DataError(f"{knob}={word} is {_describe_path(path)}; mend the link, or give a file or a folder.")
    found = sorted(match_paths(path))
    matched = [p for p in found if p.is_file()]
    _refuse_unreadable(found, f"{knob}={word}")
    if not matched:
        raise DataError(f"{knob}={word}: there is no such file.{_suggest_hub(word, knob) or _suggest_near(path)}")
    return matched


def _suggest_hub(word: str, knob: str) -> str:
    """The words that take a data set from the hub, if what was given looks like the name of one."""
    named = HUB_ID.fullmatch(word)
    if not named or guess_kind(Path(word)) is not None or Path(word).parent.is_dir():
        return ""
    return f" For the data set of the hub, write {knob}={HUB}{named[1]}."


def _refuse_unreadable(found: list[Path], what: str) -> None:
    """Raises DataError if one of the paths has the ending of a data file and is none: it would be left out in silence.
    """
    for path in found:
        if guess_kind(path) is not None and not path.is_file() and not path.name.startswith("."):
            named = _describe_path(path)
            if path.is_dir():
                raise DataError(f"{what}: {path.name} is {named}; name the files in it, or give it another ending.")
            raise DataError(
                f"{what}: {path.name} is {named}, which cannot be read; remove it, or name the files one by one."
            )


def _describe_path(path: Path) -> str:
    """What stands at a path that is no file."""
    link = "a link to " if path.is_symlink() else ""
    if path.is_dir():
        return f"{link}a folder"
    if not path.exists():
        try:
            return f"a link to {path.readlink()}, {'in a ring of links' if _is_ring(path) else 'which does not exist'}"
        except OSError:
            return "gone"
    kinds = {"is_fifo": "a pipe", "is_socket": "a socket", "is_char_device": "a device", "is_block_device": "a device"}
    return link + next((name for asks, name in kinds.items() if getattr(path, asks)()), "no file")


def _is_ring(path: Path) -> bool:
    """Whether following the links of a path never ends."""
    try:
        path.stat()
    except OSError as error:
        return error.errno == errno.ELOOP
    return False


def _refuse_unreachable(path: Path, knob: str) -> None:
    """Raise DataError if a path leads into a ring of links, or may not be read."""
    try:
        path.stat()
    except OSError as error:
        if _is_ring(path):
            raise DataError(
                f"{knob}={path} is a ring of links, which lead to each other and to no file; give the file itself."
            ) from error
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise DataError(f"{knob}={path} cannot be read: {error.strerror}.") from error


def _suggest_near(path: Path) -> str:
    names = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    close = find_nearest(path.name, names, 1)
    return f" Did you mean {path.parent / close[0]}?" if close else ""


def _list_folder(path: Path, knob: str) -> list[Path]:
    """The data files right in a folder; or those of what HF datasets' save_to_disk wrote, of its train split."""
    if (path / "dataset_dict.json").is_file():
        splits = _list_entries(path / "dataset_dict.json", "splits")
        if not all(isinstance(split, str) and split and Path(split).name == split for split in splits):
            raise DataError(
                f"{path}/dataset_dict.json: field 'splits': a split has no plain name; save it again with save_to_disk."
            )
        if "train" not in splits and len(splits) != 1:
            raise DataError(
                f"{knob}={path}: the splits are {', '.join(splits)}, none is train; name one: "
                f"{knob}={path / splits[0]}."
            )
        # The folder's own name for the split: nothing outside the folder is ever opened.
        return _list_folder(path / Path("train" if "train" in splits else splits[0]).name, knob)
    if (path / "state.json").is_file():
        state = _list_entries(path / "state.json", "_data_files")
        if not all(isinstance(file, dict) and isinstance(file.get("filename"), str) for file in state):
            raise DataError(
                f"{path}/state.json: field '_data_files': a file has no name; save the data set again "
                "with save_to_disk."
            )
        files = [path / Path(file["filename"]).name for file in state]
        if gone := next((file for file in files if not file.is_file()), None):
            raise DataError(
                f"{path}/state.json names {gone.name}, which is no file in the folder; save it again with save_to_disk."
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
        hint = f" To read its folders, write {knob}={path}/{below[0]}." if below else ""
        raise DataError(f"{knob}={path}: the folder holds no {', '.join(KINDS)} file.{hint}")
    _refuse_splits(inside, path, knob)
    return inside


def _refuse_splits(files: list[Path], folder: Path, knob: str) -> None:
    """Raises DataError if a folder holds a training set and another to measure with, which would be learned too."""
    splits = {found[1].lower(): file for file in files if (found := SPLIT.match(file.name))}
    other = next((split for split in splits if split != "train"), None)
    if "train" in splits and other is not None:
        train, val = ("".join([name, "*", "".join(splits[name].suffixes[-2:])]) for name in ("train", other))
        raise DataError(
            f"{knob}={folder}: the folder holds {splits['train'].name} and {splits[other].name}, which are not to be "
            "learned alike; "
            f"name one: {knob}={folder / train}, and for example data.val_path={folder / val}."
        )


def _list_entries(path: Path, field: str) -> list[Any]:
    try:
        listed = read_object(path)[field]
        if listed and isinstance(listed, list):
            return listed
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise DataError(f"{path}: field '{field}': no list of files is in it; save the data set again with save_to_disk.")


def _download_hub(word: str) -> list[Path]:
    """The Arrow files to which HF datasets downloads a hub data set: `hub:owner/name`, `hub:owner/name:split`."""
    name, _, split = word.removeprefix(HUB).partition(":")
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise DataError(f"data.path={word} needs the extra: pip install 'fulgurite[datasets]'.") from error
    try:
        loaded = load_dataset(name, split=split or "train")
    except Exception as error:  # datasets raises every type there is on a repository that is malformed
        said = shorten(" ".join(str(error).split()), 600)
        raise DataError(
            f"data.path={word}: the hub has no such data set, or cannot be reached ({said}); download it, and give "
            "its folder."
        ) from error
    return [Path(file["filename"]) for file in loaded.cache_files]
