"""Folders that a model is loaded from: runs, their checkpoints, adapters and their base."""

from __future__ import annotations

import re
from pathlib import Path

from fulgurite.checkpoint.folder import find_newest_whole
from fulgurite.errors import CheckpointError, ModelError
from fulgurite.files.manifest import hash_file
from fulgurite.model.config import Model
from fulgurite.model.validate import find_base_of_adapter

CHECKPOINT = re.compile(r"best|last|step-[0-9]+")


def hash_start(model: Model) -> dict[str, str]:
    """Returns the hash of the checkpoint that a run begins from, if its model is an earlier run, which may have been
    trained further since; a resumed run compares it."""
    folder = model.folder()
    if folder is None or not is_run(folder):
        return {}
    manifest = choose_checkpoint(folder, "best") / "manifest.json"
    return {"start": hash_file(manifest)[:32]}


def is_run(folder: Path) -> bool:
    """Returns whether a folder is a run folder."""
    return (folder / "config.yaml").is_file() and (folder / "checkpoints").is_dir()


def read_adapter_base(folder: Path) -> str:
    """Returns the folder or hub id of the base model of an adapter. Raises ModelError if it names none."""
    if not find_base_of_adapter(folder):
        raise ModelError(
            "{path} is an adapter that names no base model; give its run instead, model.path=<run folder>.", path=folder
        )
    return find_base_of_adapter(folder)


def choose_checkpoint(folder: Path, checkpoint: str) -> Path:
    """Returns the folder of a checkpoint by name; `best` falls back to the newest if there was no evaluation."""
    if CHECKPOINT.fullmatch(checkpoint) is None:
        raise CheckpointError(
            "checkpoint={checkpoint} is not valid; use best, last or step-N.", checkpoint=checkpoint
        )
    place = folder / "checkpoints" / checkpoint
    if place.is_dir():
        return place
    newest, _ = find_newest_whole(folder / "checkpoints")
    if newest is None:
        raise CheckpointError("{path} has no whole checkpoint yet; train it first, or give another run.", path=folder)
    if checkpoint == "best":
        return newest
    raise CheckpointError(
        "{path} has no checkpoint {name}; it has {names}.",
        path=folder, name=checkpoint, names=", ".join(sorted(p.name for p in place.parent.iterdir())),
    )
