"""Lightning's checkpoints as folders: weights, optimizer and the rest, as safetensors and JSON."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fulgurite.checkpoint import folder, tree, weights
from fulgurite.checkpoint.peers import Peers
from fulgurite.checkpoint.read import check_folder, load_tensors
from fulgurite.checkpoint.shards import TensorPart
from fulgurite.checkpoint.stored import describe_parts, open_group, read_group
from fulgurite.errors import CheckpointError
from fulgurite.files import atomic
from fulgurite.files.manifest import describe_file
from fulgurite.language.library_errors import translate_error, translate_system_error

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Contents:
    """A checkpoint as the contents of its files: tensors, or the parts of them that this process has."""

    weights: dict[str, Any]
    moments: dict[str, Any]
    others: dict[str, Any]
    text: bytes

    def list_groups(self) -> list[tuple[str, dict[str, Any]]]:
        """Returns the files of tensors with their contents."""
        return list(zip(folder.PARTS, (self.weights, self.moments, self.others), strict=False))

    def measure(self) -> int:
        """Returns the bytes of this process's contents."""
        tensors = (get_rows(item) for _, group in self.list_groups() for item in group.values())
        return len(self.text) + sum(tensor.nbytes for tensor in tensors)


def get_rows(item: Tensor | TensorPart) -> Tensor:
    """Returns a tensor, or the rows of a part."""
    return item.rows if isinstance(item, TensorPart) else item


def encode_checkpoint(checkpoint: dict[str, Any], place: Path) -> Contents:
    """Converts Lightning's checkpoint. Raises CheckpointError (a type), TrainingFailed (a weight is not finite)."""
    rest = dict(checkpoint)
    learned = {
        name: tree.make_dense_part(item, name) if isinstance(item, TensorPart) else tree.make_dense(item, name)
        for name, item in rest.pop("state_dict").items()
    }
    weights.check_finite({name: get_rows(item) for name, item in learned.items()}, str(place))
    moments: dict[str, Any] = {}
    optimizer = tree.encode(rest.pop("optimizer_states", []), "optimizer", moments)
    others: dict[str, Any] = {}
    state = tree.encode(rest, "state", others)
    text = json.dumps({"format": FORMAT, "optimizer": optimizer, "state": state}, allow_nan=False).encode()
    return Contents(learned, moments, others, text)


class FolderCheckpointIO(CheckpointIO):  # type: ignore[misc]
    """Saves and loads checkpoint folders. Refuses a single file unread: it could be a pickle, which runs code."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Writes the folder at `path`. Raises CheckpointError (disk, type), TrainingFailed (a weight is not finite)."""
        place = Path(path)
        # Everything is converted before the first byte is written: an error here leaves no draft.
        contents = encode_checkpoint(checkpoint, place)
        # The size is known exactly, so that a full disk is found before writing and not in the middle of it.
        with folder.write_checkpoint(place, contents.measure()) as draft:
            for name, group in contents.list_groups():
                _save(group, draft / name)
            (draft / "state.json").write_bytes(contents.text)
            # Before the rename: a checkpoint that cannot be read never gets its name.
            _read_back(draft / "weights.safetensors", contents.weights)

    def save_parts(self, checkpoint: dict[str, Any], path: str | os.PathLike[str], peers: Peers) -> None:
        """Writes the folder at `path` together with the other processes, each of which writes the parts that it has.

        Every process must call it. If one of them fails, all raise its error, and the folder is as it was.
        """
        place, group = Path(path), PartWriter(peers)
        # As in `save_checkpoint`, everything is converted before the first byte is written, in all processes.
        needed = sum(peers.attempt(lambda: group.encode(checkpoint, place)))
        known: dict[str, Any] = {}
        with contextlib.ExitStack() as stack:

            def begin() -> str:
                if not peers.is_first:
                    return ""
                return str(stack.enter_context(folder.write_checkpoint(place, needed, known)))

            draft = Path(peers.attempt(begin)[0])
            # The first process writes the manifest, which names the files of all.
            for entries in peers.attempt(lambda: group.write(draft, place, needed)):
                known |= entries
            peers.attempt(lambda: _finish(stack, draft, known, place) if peers.is_first else None)

    def load_checkpoint(
        self, path: str | os.PathLike[str], map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Reads a folder after checking its manifest; tensors are on the CPU. Raises CheckpointError."""
        return self._load(Path(path), read_group)

    def open_checkpoint(self, path: str | os.PathLike[str]) -> dict[str, Any]:
        """Returns the same, with a StoredTensor, which is read when it is needed, in place of each tensor of the
        weights and of the optimizer's state."""
        return self._load(Path(path), open_group)

    def _load(self, path: Path, read: Callable[[Path, str], Mapping[str, Any]]) -> dict[str, Any]:
        place = check_folder(path)
        try:
            document = json.loads((place / "state.json").read_bytes())
            if document["format"] != FORMAT:
                raise CheckpointError(
                    "{path} has format {found!r}, but this version reads format {expected}; use the version of "
                    "fulgurite that wrote it.",
                    path=place, found=document["format"], expected=FORMAT,
                )
            state: dict[str, Any] = tree.decode(document["state"], load_tensors(place / "state.safetensors"))
            state["optimizer_states"] = tree.decode(document["optimizer"], read(place, "optimizer"))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(
                "{path}/state.json cannot be read: {error}; use an earlier checkpoint.",
                path=place, error=translate_error(error),
            ) from error
        state["state_dict"] = dict(read(place, "weights"))
        return state

    def remove_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Deletes a checkpoint folder."""
        atomic.remove_folder(Path(path))


class PartWriter:
    """Writes the files of one process."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._contents: Contents

    def encode(self, checkpoint: dict[str, Any], place: Path) -> int:
        """Converts the checkpoint, and returns the bytes of this process. Tensors that are not divided belong to the
        first."""
        contents = encode_checkpoint(checkpoint, place)
        first = self._peers.is_first
        weights, moments = (_select_own(group, first) for group in (contents.weights, contents.moments))
        self._contents = Contents(weights, moments, contents.others if first else {}, contents.text if first else b"")
        return self._contents.measure()

    def write(self, draft: Path, place: Path, needed: int) -> dict[str, Any]:
        """Writes the files, and returns their entries of the manifest. Raises CheckpointError or TrainingFailed."""
        peers, own = self._peers, self._contents
        written = []
        try:
            for name, group in zip(folder.SPLIT, (own.weights, own.moments), strict=True):
                written.append(draft / folder.name_part(name, peers.rank, peers.size))
                _save(group, written[-1])
            if peers.is_first:
                _save(own.others, draft / folder.PARTS[2])
                (draft / folder.PARTS[3]).write_bytes(own.text)
            _read_back(written[0], own.weights)
            return {path.name: describe_file(path, durable=True) for path in written}
        except OSError as error:
            raise folder.refuse_write(place, translate_system_error(error), needed) from error


def _select_own(group: dict[str, Any], is_first: bool) -> dict[str, Any]:
    """Returns the parts that have rows, and in the first process the tensors that are not divided."""
    return {
        name: item for name, item in group.items()
        if (is_first if isinstance(item, Tensor) else item.rows.numel() > 0)
    }


def _finish(stack: contextlib.ExitStack, draft: Path, known: Mapping[str, Any], place: Path) -> None:
    """Publishes the folder if this process, the first, sees the files of all others."""
    for name, entry in known.items():
        if not (draft / name).is_file() or (draft / name).stat().st_size != entry["size"]:
            raise CheckpointError(
                "{path} was not written: the first process does not see {file}, which another process wrote. Put "
                "run_dir on a file system that all machines of this run share, or set "
                "strategy.shard_checkpoint_gb=1e9. The earlier checkpoint is intact.",
                path=place, file=name,
            )
    # The end of the block of `write_checkpoint`, which gives the draft its name.
    stack.close()


def _save(tensors: Mapping[str, Tensor | TensorPart], path: Path) -> None:
    parts = {name: (item.start, item.shape) for name, item in tensors.items() if isinstance(item, TensorPart)}
    rows = {name: get_rows(item) for name, item in tensors.items()}
    header = describe_parts(parts) if parts else {"format": "pt"}  # one key: the order of several is random
    try:
        save_file(_separate_storages(rows), path, metadata=header)
    except SafetensorError as error:
        # safetensors wraps the system's error, whose number is in the text
        number = re.search(r"os error (\d+)", str(error))
        code = int(number[1]) if number else errno.EIO
        raise OSError(code, os.strerror(code) if number else str(error), str(path)) from error


def _read_back(path: Path, learned: Mapping[str, Tensor | TensorPart]) -> None:
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
    for name, item in learned.items():
        tensor = get_rows(item)
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
