"""Datasets by their names in a dataset_info.json, the registry of LLaMA-Factory (0.9.5, `data/parser.py`).

An entry has the place of its data (`file_name`, or `hf_hub_url` with `split`), and how they are read:
`formatting`, `ranking`, `columns`, `tags`, `num_samples`. As there, an entry with `columns` reads no other column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fulgurite.data.config import Format
from fulgurite.data.file_form import FileForm, lower_roles
from fulgurite.data.files import HUB, find_files
from fulgurite.data.reads import Reads
from fulgurite.errors import DataError, suggest_similar
from fulgurite.files.json import name_type, read_object
from fulgurite.language.library_errors import translate_error, translate_system_error

FILE_NAME = "dataset_info.json"
ALPACA = {"prompt": "instruction", "query": "input", "response": "output", "system": "system", "history": "history",
          "tools": "tools", "chosen": "chosen", "rejected": "rejected", "kto_tag": "label"}
CHAT = {"messages": "messages", "system": "system", "tools": "tools", "chosen": "chosen", "rejected": "rejected",
        "kto_tag": "label"}
COLUMNS = {"alpaca": ALPACA, "sharegpt": CHAT, "openai": CHAT}
"""Our fields by the keys of `columns`, for each `formatting`."""
DEFAULTS = {"prompt": "instruction", "query": "input", "response": "output", "messages": "conversations"}
"""The columns of an entry without `columns`."""
TAGS = {
    "user_tag": ("human", "user"), "assistant_tag": ("gpt", "assistant"), "observation_tag": ("observation", "tool"),
    "function_tag": ("function_call", "function_call"), "system_tag": ("system", "system"),
}
"""The default name of each role, and our role."""
KEYS = {"role_tag": "role", "content_tag": "content"}
NOT_READ = ("images", "videos", "audios")
ELSEWHERE = ("script_url", "cloud_file_name", "ms_hub_url", "om_hub_url")
KNOWN = frozenset({"file_name", "hf_hub_url", *ELSEWHERE, "formatting", "ranking", "subset", "split", "folder",
                   "num_samples", "columns", "tags"})


@dataclass(frozen=True, slots=True)
class Registered:
    """The files of a dataset of the registry, and how they are read."""

    name: str
    files: tuple[Path, ...]
    form: FileForm


def find_registered(
    registry: str, names: Sequence[str], folders: Sequence[str], reads: Reads, knob: str = "data.dataset"
) -> list[Registered]:
    """Returns the datasets of `names`, in order. `folders` has the folder of their files, if it is not the registry's.

    Raises DataError.
    """
    path = Path(registry).expanduser()
    path = path / FILE_NAME if path.is_dir() else path
    entries = _read_entries(path)
    if not names:
        raise DataError(
            "data.registry={path} needs data.dataset=<dataset>; it has {names}.",
            path=path, names=", ".join(entries) if len(entries) <= 20 else f"{', '.join(list(entries)[:20])}, …",
        )
    if len(set(names)) < len(names):
        raise DataError("{knob} names a dataset twice; name it once, and raise data.weights to use it more often.",
                        knob=knob)
    if len(folders) > 1 or not all(Path(folder).is_dir() for folder in folders):
        raise DataError("With data.registry, data.path is the folder of its files, if that is not the registry's; "
                        "found data.path={given}.", given=",".join(folders))
    folder = Path(folders[0]) if folders else path.parent
    return [_find_one(path, folder, entries, name, reads, knob) for name in names]


def _read_entries(path: Path) -> dict[str, Any]:
    try:
        entries = read_object(path)
    except OSError as error:
        raise DataError("data.registry={path} cannot be read: {reason}.", path=path,
                        reason=translate_system_error(error)) from error
    except ValueError as error:
        raise DataError("data.registry={path} is not a {name}: {reason}.", path=path, name=FILE_NAME,
                        reason=translate_error(error)) from error
    if not entries or not all(isinstance(entry, dict) for entry in entries.values()):
        raise DataError("data.registry={path} is not a {name} of LLaMA-Factory, which has an object for each dataset.",
                        path=path, name=FILE_NAME)
    return entries


def _find_one(
    path: Path, folder: Path, entries: Mapping[str, Any], name: str, reads: Reads, knob: str
) -> Registered:
    if name not in entries:
        raise DataError("{knob}={name}: {path} has no dataset of that name.{hint}",
                        knob=knob, name=name, path=path, hint=suggest_similar(name, entries))
    entry, place = entries[name], f"{path}: {name}"
    for key in entry:
        if key not in KNOWN:
            raise DataError("{place} has the key {key}, which is not read; remove it.{hint}",
                            place=place, key=key, hint=suggest_similar(key, KNOWN))
    return Registered(name, tuple(_find_entry_files(entry, folder, place)), build_entry_form(entry, place, reads))


def _find_entry_files(entry: Mapping[str, Any], folder: Path, place: str) -> list[Path]:
    """Returns the files of an entry: those of its hub id, or its own. Raises DataError."""
    if any(entry.get(key) for key in ("subset", "folder")):
        raise DataError("{place} reads a part of a dataset of the hub (subset or folder); download that part, and give "
                        "it as file_name.", place=place)
    if isinstance(url := entry.get("hf_hub_url"), str) and "file_name" not in entry:
        word = f"{HUB}{url}:{entry['split']}" if entry.get("split") else f"{HUB}{url}"
        return find_files([word], "data.dataset")[0]
    if not isinstance(file := entry.get("file_name"), str) or not file:
        given = next((key for key in ELSEWHERE if key in entry), "")
        raise DataError("{place} has no file_name and no hf_hub_url ({key}); download the data, and give their file as "
                        "file_name.", place=place, key=given or "-")
    found = folder / file
    # Somebody else's registry must not read files of other folders under an innocent name.
    if not found.resolve().is_relative_to(folder.resolve()):
        raise DataError("{place}: file_name={file} leads out of the folder {folder}; move the file into it, or give it "
                        "by data.path without data.registry.", place=place, file=file, folder=folder)
    return find_files([str(found)], "data.dataset")[0]


def build_entry_form(entry: Mapping[str, Any], place: str, reads: Reads) -> FileForm:
    """Returns how an entry is read. Raises DataError for a value that LLaMA-Factory does not know either, and for
    images, videos and sound."""
    formatting = entry.get("formatting") or "alpaca"
    if formatting not in COLUMNS:
        raise DataError("{place}: formatting={found} is not known; it is one of {known}.",
                        place=place, found=formatting, known=", ".join(COLUMNS))
    given, tags = (_read_names(entry, key, place) for key in ("columns", "tags"))
    fields = dict(COLUMNS[formatting])
    for key in given:
        if key in NOT_READ:
            raise DataError("{place} has a column of {key}; only text is read here.", place=place, key=key)
        if key not in {**ALPACA, **CHAT}:
            raise DataError("{place}: columns has the key {key}, which is not known.{hint}",
                            place=place, key=key, hint=suggest_similar(key, {**ALPACA, **CHAT}))
    if reads.running_text and formatting == "alpaca":
        fields["prompt"] = "text"  # pre-training reads the text of `prompt`, as LLaMA-Factory does
    columns = {fields[key]: theirs for key, theirs in (given or DEFAULTS).items() if key in fields}
    if not entry.get("ranking"):
        columns = {ours: theirs for ours, theirs in columns.items() if ours not in ("chosen", "rejected")}
    elif not {"chosen", "rejected"} <= set(columns):
        raise DataError("{place} has ranking, which needs the columns chosen and rejected.", place=place)
    return FileForm(
        _find_format(formatting, columns, bool(entry.get("ranking")), reads), columns,
        *(({}, {}) if formatting == "alpaca" else _read_tags(tags, place)),
        is_closed=True, is_lenient=True, limit=_read_limit(entry, place), owner=place,
    )


def _find_format(formatting: str, columns: Mapping[str, str], is_ranking: bool, reads: Reads) -> Format:
    if is_ranking:
        return Format.preference
    if "label" in columns and reads.compares:
        return Format.kto
    if "text" in columns:
        return Format.text
    if formatting != "alpaca":
        return Format.openai
    return Format.alpaca


def _read_names(entry: Mapping[str, Any], key: str, place: str) -> dict[str, str]:
    """Returns an object of texts; entries that are null are left out."""
    found = entry.get(key) or {}
    if not isinstance(found, Mapping) or not all(isinstance(value, str | None) for value in found.values()):
        raise DataError("{place}: {key} is {kind}, and an object of names was expected.",
                        place=place, key=key, kind=name_type(found))
    return {str(name): value for name, value in found.items() if value}


def _read_tags(tags: Mapping[str, str], place: str) -> tuple[dict[str, str], dict[str, str]]:
    """Returns the keys of a turn, and the roles."""
    for tag in tags:
        if tag not in {**TAGS, **KEYS}:
            raise DataError("{place}: tags has the key {key}, which is not known.{hint}",
                            place=place, key=tag, hint=suggest_similar(tag, {**TAGS, **KEYS}))
    turn_keys = {ours: tags[tag] for tag, ours in KEYS.items() if tag in tags}
    # A set with tags uses those alone; without them ours know LLaMA-Factory's defaults.
    roles = {tags.get(tag, default): ours for tag, (default, ours) in TAGS.items()} if tags else {}
    return turn_keys, lower_roles(roles, place)


def _read_limit(entry: Mapping[str, Any], place: str) -> int | None:
    limit = entry.get("num_samples")
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
        raise DataError("{place}: num_samples is {found}, and a number of at least 1 was expected.",
                        place=place, found=limit)
    return limit
