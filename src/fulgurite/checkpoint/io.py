"""Lightning's checkpoints as folders: weights, optimizer and the rest, as safetensors and JSON."""

from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fulgurite.checkpoint import folder, tree, weights
from fulgurite.checkpoint.read import check_folder, load_tensors
from fulgurite.errors import CheckpointError
from fulgurite.files import atomic
from fulgurite.language.library_errors import translate_error

FORMAT = 1


class FolderCheckpointIO(CheckpointIO):  # type: ignore[misc]
    """Saves and loads checkpoint folders. Refuses a single file unread: it could be a pickle, which runs code."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Writes the folder at `path`. Raises CheckpointError (disk, type), TrainingFailed (a weight is not finite)."""
        place, rest = Path(path), dict(checkpoint)
        # Everything is converted before the first byte is written: an error here leaves no draft.
        learned = {name: tree.make_dense(tensor, name) for name, tensor in rest.pop("state_dict").items()}
        weights.check_finite(learned, str(place))
        moments: dict[str, Tensor] = {}
        optimizer = tree.encode(rest.pop("optimizer_states", []), "optimizer", moments)
        others: dict[str, Tensor] = {}
        state = tree.encode(rest, "state", others)
        text = json.dumps({"format": FORMAT, "optimizer": optimizer, "state": state}, allow_nan=False).encode()
        # The size is known exactly, so that a full disk is found before writing and not in the middle of it.
        needed = len(text) + sum(tensor.nbytes for group in (learned, moments, others) for tensor in group.values())
        with folder.write_checkpoint(place, needed) as draft:
            for name, group in zip(folder.PARTS, (learned, moments, others), strict=False):
                _save(group, draft / name)
            (draft / "state.json").write_bytes(text)
            # Before the rename: a checkpoint that cannot be read never gets its name.
            _read_back(draft / "weights.safetensors", learned)

    def load_checkpoint(
        self, path: str | os.PathLike[str], map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Reads a folder after checking its manifest; tensors are on the CPU. Raises CheckpointError."""
        place = check_folder(Path(path))
        try:
            document = json.loads((place / "state.json").read_bytes())
            if document["format"] != FORMAT:
                raise CheckpointError(
                    "{path} has format {found!r}, but this version reads format {expected}; use the version of "
                    "fulgurite that wrote it.",
                    path=place, found=document["format"], expected=FORMAT,
                )
            state: dict[str, Any] = tree.decode(document["state"], load_tensors(place / "state.safetensors"))
            state["optimizer_states"] = tree.decode(
                document["optimizer"], load_tensors(place / "optimizer.safetensors")
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(
                "{path}/state.json cannot be read: {error}; use an earlier checkpoint.",
                path=place, error=translate_error(error),
            ) from error
        state["state_dict"] = load_tensors(place / "weights.safetensors")
        return state

    def remove_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Deletes a checkpoint folder."""
        atomic.remove_folder(Path(path))


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    try:
        save_file(_separate_storages(tensors), path, metadata={"format": "pt"})
    except SafetensorError as error:
        # safetensors wraps the system's error, whose number is in the text
        number = re.search(r"os error (\d+)", str(error))
        code = int(number[1]) if number else errno.EIO
        raise OSError(code, os.strerror(code) if number else str(error), str(path)) from error


def _read_back(path: Path, learned: dict[str, Tensor]) -> None:
    """Raises CheckpointError unless the file contains exactly the trained tensors: the same names and values, none
    empty.
    """
    with safe_open(path, framework="pt") as kept:
        if set(kept.keys()) != set(learned):
            name = min(set(kept.keys()) ^ set(learned))
            raise CheckpointError(
                "{path} was not kept: {name} is only in the file or only in the model. The earlier checkpoint is "
                "intact; check the disk of this machine.",
                path=path, name=name,
            )
    for name, tensor in learned.items():
        # opened for each tensor: an open file keeps everything that was read of it in memory
        with safe_open(path, framework="pt") as kept:
            same = tensor.numel() > 0 and torch.equal(kept.get_tensor(name), tensor.cpu())
        if not same:
            raise CheckpointError(
                "{path} was not kept: {name} reads back empty or changed; check the disk and the memory of this "
                "machine.",
                path=path, name=name,
            )


def _separate_storages(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns the same tensors, each in a storage of its own: safetensors refuses views of one storage. Copies only
    those."""
    seen: set[int] = set()
    apart = {}
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage()
        # A view is smaller than its storage, or another tensor of the file begins at the same address.
        shared = storage.nbytes() != tensor.nbytes or storage.data_ptr() in seen
        seen.add(storage.data_ptr())
        apart[name] = tensor.clone() if shared else tensor
    return apart
