"""A folder of our cache that vouches for itself: a manifest with the size and the SHA-256 of each of its files."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

from fulgurite.text.json_reader import read_object

MANIFEST = "manifest.json"


def seal(folder: Path) -> None:
    """Write the manifest of all files of a folder, and wait until the disk has them. Raises OSError."""
    entries = {}
    for path in sorted(entry for entry in folder.iterdir() if entry.is_file() and entry.name != MANIFEST):
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
            entries[path.name] = {"size": path.stat().st_size, "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}
    (folder / MANIFEST).write_text(json.dumps({"version": 1, "files": entries}, indent=1), encoding="utf-8")


def damage(folder: Path, weights: bool = True) -> str:
    """What is wrong with a sealed folder, in a few words; "" if nothing is. Without `weights` their sizes are looked at alone."""
    try:
        entries = read_object(folder / MANIFEST)["files"]
        for name, entry in entries.items():
            path = folder / name
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != entry["size"]:
                return f"{name} has another size"
            if (weights or path.suffix != ".safetensors") and _sha256(path) != entry["sha256"]:
                return f"{name} has changed"
        strange = sorted({e.name for e in folder.iterdir() if not e.name.startswith(".")} - {*entries, MANIFEST})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"it has no whole {MANIFEST}"
    return f"{strange[0]} does not belong to it" if strange else "" if entries else "it is empty"


def publish(draft: Path, folder: Path) -> None:
    """Put a sealed draft into its place; what was there goes first. Raises OSError."""
    old = folder.with_name(f"{folder.name}.tmp-old-{os.getpid()}")
    if folder.exists():
        folder.rename(old)
    try:
        draft.rename(folder)
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
