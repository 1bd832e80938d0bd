"""Reads the tensors of checkpoint folders. Imports torch, but not Lightning."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from fulgurite.checkpoint import folder
from fulgurite.checkpoint.stored import read_group, refuse_unreadable
from fulgurite.errors import CheckpointError


def check_folder(path: Path) -> Path:
    """Returns `path` with its links resolved, after checking its manifest. Raises CheckpointError with the fault."""
    if path.is_file():
        raise CheckpointError(
            "{path} is a file, which could run code when it is read; give a checkpoint folder with manifest.json.",
            path=path,
        )
    faults = folder.find_faults(path)
    if faults:
        raise CheckpointError(
            "{path} is not a whole checkpoint: {fault}; use an earlier one.", path=path, fault=faults[0]
        )
    return path.resolve()


def read_weights(path: Path) -> dict[str, Tensor]:
    """Returns the trained weights of a checkpoint folder by name, on the CPU. Raises CheckpointError."""
    return read_group(check_folder(path), "weights")


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Returns the tensors of a file, copied: load_file maps the file, which a later checkpoint may delete."""
    try:
        # Cloned: a mapped file that is deleted keeps its space on the disk until the map is closed.
        return {name: tensor.clone() for name, tensor in load_file(path).items()}
    except SafetensorError as error:
        raise refuse_unreadable(path, error) from error
