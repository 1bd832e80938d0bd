"""Digests of files, and folders with a manifest: `manifest.json` lists each file of its folder with its size and
SHA-256.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from fulgurite.files import atomic
from fulgurite.files.json import read_json
from fulgurite.language.library_errors import translate_error
from fulgurite.language.message import UserMessage, message

MANIFEST = "manifest.json"


def hash_file(path: Path) -> str:
    """Returns the SHA-256 of a file's content, in hexadecimal digits. Raises OSError."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def describe_file(path: Path, durable: bool = False) -> dict[str, Any]:
    """Returns the entry of a file; with `durable`, waits until the disk has it. Raises OSError."""
    if durable:
        atomic.sync(path)
    return {"size": path.stat().st_size, "sha256": hash_file(path)}


def write_manifest(
    folder: Path, durable: bool = False, known: Mapping[str, Mapping[str, Any]] | None = None
) -> None:
    """Writes the manifest of all files of a folder; with `durable`, waits until the disk has the files and it.

    `known` are entries that `describe_file` returned, in another process too. Raises OSError.
    """
    entries = {}
    for path in sorted(entry for entry in folder.iterdir() if entry.is_file() and entry.name != MANIFEST):
        entries[path.name] = (known or {}).get(path.name) or describe_file(path, durable)
    (folder / MANIFEST).write_text(json.dumps({"version": 1, "files": entries}, indent=1), encoding="utf-8")
    if durable:
        atomic.sync(folder / MANIFEST)


def find_damage(
    folder: Path,
    required: Iterable[str] = (),
    *,
    closed: bool = False,
    is_hashed: Callable[[str], bool] = lambda name: True,
) -> list[UserMessage]:
    """Returns what is wrong with a folder that has a manifest, a phrase for each fault; an empty list if nothing is.

    The manifest must list the `required` files; if the folder is `closed`, it must have no other file. Of a file whose
    name is not `is_hashed`, only the size is compared.
    """
    if not folder.is_dir():
        return [message("it is not a folder")]
    try:
        files = _read_manifest(folder / MANIFEST, required)
        faults = []
        for name, entry in files.items():
            fault = _compare(folder / name, entry, is_hashed(name))
            if fault:
                faults.append(fault)
        if closed:
            # Hidden files are those of the system or of an editor, such as .DS_Store.
            present = {entry.name for entry in folder.iterdir() if not entry.name.startswith(".")}
            strange = sorted(present - {*files, MANIFEST})
            faults += [message("{file} is not in {manifest}", file=name, manifest=MANIFEST) for name in strange]
    except (OSError, ValueError) as error:
        return [translate_error(error)]
    return faults


def _read_manifest(path: Path, required: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Reads the entries of a manifest. Raises ValueError with a phrase if it is not one."""
    if not path.is_file():
        raise ValueError(message("{file} is missing", file=path.name))
    try:
        manifest = read_json(path)
    except ValueError as error:
        raise ValueError(
            message("{file} is not JSON ({size} bytes)", file=path.name, size=path.stat().st_size)
        ) from error
    files = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(files, dict) or not all(isinstance(entry, dict) for entry in files.values()):
        raise ValueError(message("{file} lists no files", file=path.name))
    # a name with a folder in it could make the caller read outside of this one
    strange = [name for name in files if Path(name).name != name or name == MANIFEST]
    if strange:
        raise ValueError(
            message("{file} names {name!r}, which is not a file of this folder", file=path.name, name=strange[0])
        )
    lacking = [name for name in required if name not in files]
    if lacking:
        raise ValueError(message("{file} does not list {names}", file=path.name, names=", ".join(lacking)))
    if not files:
        raise ValueError(message("{file} lists no files", file=path.name))
    return files


def _compare(path: Path, entry: dict[str, Any], is_hashed: bool) -> UserMessage:
    """Returns how a file differs from its entry, in a phrase; empty if it does not."""
    if not path.is_file():
        return message("{file} is missing", file=path.name)
    # The size first: it finds a truncated file without reading gigabytes.
    if path.stat().st_size != entry.get("size"):
        return message(
            "{file} has {found} bytes instead of {expected}",
            file=path.name, found=path.stat().st_size, expected=entry.get("size"),
        )
    if is_hashed and hash_file(path) != entry.get("sha256"):
        return message("{file} differs from its sha256", file=path.name)
    return UserMessage()
