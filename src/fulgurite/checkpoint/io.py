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

FORMAT = 1


class FolderCheckpointIO(CheckpointIO):  # type: ignore[misc]
    """Saves and loads checkpoint folders. A single file, which could hold pickle and so code, is refused unread."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Write the folder at `path`. Raises CheckpointError (disk, type), TrainingFailed (a weight is not finite)."""
        place, rest = Path(path), dict(checkpoint)
        learned = {name: tree.make_dense(tensor, name) for name, tensor in rest.pop("state_dict").items()}
        weights.check_finite(learned, str(place))
        moments: dict[str, Tensor] = {}
        optimizer = tree.encode(rest.pop("optimizer_states", []), "optimizer", moments)
        others: dict[str, Tensor] = {}
        state = tree.encode(rest, "state", others)
        text = json.dumps({"format": FORMAT, "optimizer": optimizer, "state": state}, allow_nan=False).encode()
        needed = len(text) + sum(tensor.nbytes for group in (learned, moments, others) for tensor in group.values())
        with folder.write_checkpoint(place, needed) as draft:
            for name, group in zip(folder.PARTS, (learned, moments, others), strict=False):
                _save(group, draft / name)
            (draft / "state.json").write_bytes(text)
            _read_back(draft / "weights.safetensors", learned)

    def load_checkpoint(
        self, path: str | os.PathLike[str], map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a folder whose manifest holds; tensors are on the CPU. Raises CheckpointError."""
        place = check_folder(Path(path))
        try:
            document = json.loads((place / "state.json").read_bytes())
            if document["format"] != FORMAT:
                form = document["format"]
                raise CheckpointError(f"{place} has format {form!r}, not {FORMAT}; use the version that wrote it.")
            state: dict[str, Any] = tree.decode(document["state"], load_tensors(place / "state.safetensors"))
            state["optimizer_states"] = tree.decode(
                document["optimizer"], load_tensors(place / "optimizer.safetensors")
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{place}/state.json cannot be read: {error}; take an earlier checkpoint.") from error
        state["state_dict"] = load_tensors(place / "weights.safetensors")
        return state

    def remove_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Delete a checkpoint folder."""
        atomic.remove_folder(Path(path))


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    try:
        save_file(_separate_storages(tensors), path, metadata={"format": "pt"})
    except SafetensorError as error:
        # safetensors wraps the system's error; the number in its text says which it was
        number = re.search(r"os error (\d+)", str(error))
        code = int(number[1]) if number else errno.EIO
        raise OSError(code, os.strerror(code) if number else str(error), str(path)) from error


def _read_back(path: Path, learned: dict[str, Tensor]) -> None:
    """Raise CheckpointError unless the file holds exactly what was trained: the names, none of them empty, and each
    value.
    """
    with safe_open(path, framework="pt") as kept:
        if set(kept.keys()) != set(learned):
            name = min(set(kept.keys()) ^ set(learned))
            raise CheckpointError(
                f"{path} was not kept: {name} is in the file or in the model alone; the earlier checkpoint is whole."
            )
    for name, tensor in learned.items():
        with safe_open(
            path, framework="pt"
        ) as kept:  # once a tensor: an open file keeps all that was read of it in memory
            same = tensor.numel() > 0 and torch.equal(kept.get_tensor(name), tensor.cpu())
        if not same:
            raise CheckpointError(
                f"{path} was not kept: {name} reads back empty or changed; check disk and memory of this machine."
            )


def _separate_storages(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors, each in a storage of its own: safetensors refuses views of one storage. Copies only those."""
    seen: set[int] = set()
    apart = {}
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage()
        shared = storage.nbytes() != tensor.nbytes or storage.data_ptr() in seen
        seen.add(storage.data_ptr())
        apart[name] = tensor.clone() if shared else tensor
    return apart
