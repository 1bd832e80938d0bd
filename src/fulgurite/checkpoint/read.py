"""Reading the tensors of checkpoint folders. Imports torch, and not Lightning."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from fulgurite.checkpoint import folder
from fulgurite.errors import CheckpointError


def check_folder(path: Path) -> Path:
    """`path`, links resolved, once its manifest holds. Raises CheckpointError, which says what is wrong."""
    if path.is_file():
        raise CheckpointError(f"{path} is a file, may hold code, and is not read; give a folder with manifest.json.")
    wrong = folder.find_faults(path)
    if wrong:
        raise CheckpointError(f"{path} is not a whole checkpoint: {wrong[0]}; take an earlier one.")
    return path.resolve()


def read_weights(path: Path) -> dict[str, Tensor]:
    """The trained weights of a checkpoint folder by name, on the CPU. Raises CheckpointError."""
    return load_tensors(check_folder(path) / "weights.safetensors")


def load_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, copied: load_file maps the file, which a later checkpoint may delete."""
    try:
        return {name: tensor.clone() for name, tensor in load_file(path).items()}
    except SafetensorError as error:
        raise CheckpointError(f"{path} cannot be read: {error}; take an earlier checkpoint.") from error
