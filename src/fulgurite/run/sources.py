"""The folders that a model is loaded from: whether one is a run's, its checkpoints, the base of an adapter."""

from __future__ import annotations

import re
from pathlib import Path

from fulgurite.checkpoint.folder import find_newest_whole
from fulgurite.errors import CheckpointError, ModelError
from fulgurite.files.manifest import hash_file
from fulgurite.model.config import Model
from fulgurite.model.validate import adapter_base

CHECKPOINT = re.compile(r"best|last|step-[0-9]+")


def hash_start(model: Model) -> dict[str, str]:
    """What names the weights that a run begins from, where those are an earlier run's, which may go on: resuming holds
    them equal.
    """
    folder = model.folder()
    if folder is None or not is_run(folder):
        return {}
    manifest = choose_checkpoint(folder, "best") / "manifest.json"
    return {"start": hash_file(manifest)[:32]}


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's."""
    return (folder / "config.yaml").is_file() and (folder / "checkpoints").is_dir()


def read_adapter_base(folder: Path) -> str:
    """The folder or hub id of the model that an adapter is of. Raises ModelError where it names none."""
    if not adapter_base(folder):
        raise ModelError(
            f"{folder} is an adapter that names no base model; give the run it is from, model.path=<run folder>."
        )
    return adapter_base(folder)


def choose_checkpoint(folder: Path, checkpoint: str) -> Path:
    """The folder of a checkpoint by name; `best` falls back to the newest where nothing was evaluated."""
    if CHECKPOINT.fullmatch(checkpoint) is None:
        raise CheckpointError(f"checkpoint={checkpoint} is not allowed: it must be best, last, or step-N.")
    place = folder / "checkpoints" / checkpoint
    if place.is_dir():
        return place
    newest, _ = find_newest_whole(folder / "checkpoints")
    if newest is None:
        raise CheckpointError(
            f"{folder} has no whole checkpoint yet; train it first, or `fulgurite runs` to see which have."
        )
    if checkpoint == "best":
        return newest
    there = ", ".join(sorted(p.name for p in place.parent.iterdir()))
    raise CheckpointError(f"{folder} has no checkpoint {checkpoint}; there are {there}.")
