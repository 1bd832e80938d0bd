"""Tensors in the files of a checkpoint, which are read when they are needed, whole or some of their rows.

A tensor is in one file, or its rows are in several, one for each process that wrote the checkpoint. Each file of parts
is a safetensors file whose header names the first row and the whole shape of each of its tensors.

Alternatives: torch.distributed.checkpoint writes its index with pickle; its HuggingFaceStorageReader (torch 2.13)
leaves tensors without dimensions unread in silence, such as AdamW's count of steps (measured).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from fulgurite.checkpoint.folder import list_files
from fulgurite.errors import CheckpointError
from fulgurite.language.library_errors import translate_error

PARTS = "parts"
"""The key of a header for the first row and the whole shape of each tensor, in JSON."""


@dataclass(slots=True)
class StoredTensor:
    """A tensor that is read from its files when it is needed."""

    name: str
    shape: tuple[int, ...]
    pieces: list[tuple[int, int, Path]] = field(default_factory=list)
    """The first row, the end, and the file of each part, in the order of the rows."""

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    def read(self, start: int = 0, stop: int | None = None) -> Tensor:
        """Returns a copy of the rows from `start` to `stop`, on the CPU. Raises CheckpointError."""
        end = (self.shape[0] if self.shape else 1) if stop is None else stop
        found = []
        for first, last, path in self.pieces:
            low, high = max(start, first), min(end, last)
            if low < high:
                found.append(_read_slice(path, self, low - first, high - first))
        if not found:  # no row: the type is that of the others
            first, _, path = self.pieces[0]
            return _read_slice(path, self, 0, 1)[:0].clone()
        return found[0] if len(found) == 1 else torch.cat(found)


def _read_slice(path: Path, tensor: StoredTensor, start: int, stop: int) -> Tensor:
    # Opened for each tensor: an open file keeps everything that was read of it in memory. Copied: a mapped file that is
    # deleted keeps its space on the disk.
    try:
        with safe_open(path, framework="pt") as file:
            if not tensor.shape or (start, stop) == (0, tensor.shape[0]):
                return file.get_tensor(tensor.name).clone()  # type: ignore[no-any-return]
            return file.get_slice(tensor.name)[start:stop].clone()  # type: ignore[no-any-return]
    except (SafetensorError, OSError) as error:
        raise refuse_unreadable(path, error) from error


def refuse_unreadable(path: Path, error: Exception) -> CheckpointError:
    """Returns the error for a file that cannot be read."""
    return CheckpointError(
        "{path} cannot be read: {error}; use an earlier checkpoint.", path=path, error=translate_error(error)
    )


def open_group(folder: Path, group: str) -> dict[str, StoredTensor]:
    """Returns the tensors of a group by name, without reading them. Raises CheckpointError if rows are missing."""
    found: dict[str, StoredTensor] = {}
    for name in list_files((path.name for path in folder.iterdir()), group):
        _add_file(folder / name, found)
    for stored in found.values():
        stored.pieces.sort(key=lambda piece: piece[:2])
        _check_rows(folder, stored)
    return found


def _add_file(path: Path, found: dict[str, StoredTensor]) -> None:
    """Adds the tensors of a file, after checking its header."""
    try:
        with safe_open(path, framework="pt") as file:
            parts = json.loads((file.metadata() or {}).get(PARTS, "{}"))
            for name in file.keys():  # noqa: SIM118 (a safetensors file is no mapping)
                own = tuple(file.get_slice(name).get_shape())
                # A file without a header of parts has whole tensors.
                start, *whole = parts.get(name, [0, *own])
                stored = found.setdefault(name, StoredTensor(name, tuple(whole)))
                # All files must agree on the whole shape; their own shapes may differ in the rows only.
                if stored.shape != tuple(whole) or own[1:] != stored.shape[1:]:
                    raise ValueError(f"{name}: {own} of {tuple(whole)}, {stored.shape}")
                stored.pieces.append((start, start + (own[0] if own else 1), path))
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError) as error:
        raise refuse_unreadable(path, error) from error


def _check_rows(folder: Path, stored: StoredTensor) -> None:
    """Raises CheckpointError unless the parts are all rows of the tensor, each once."""
    ends = [0, *(last for _, last, _ in stored.pieces)]
    firsts = [*(first for first, _, _ in stored.pieces), stored.shape[0] if stored.shape else 1]
    # each part begins at the end of the one before, and the last one ends with the tensor
    wrong = [end for end, first in zip(ends, firsts, strict=True) if end != first]
    if wrong:
        raise CheckpointError(
            "{path} has not every row of {name} once: row {row} is missing or is there twice; use an earlier "
            "checkpoint.",
            path=folder, name=stored.name, row=wrong[0],
        )


def read_group(folder: Path, group: str) -> dict[str, Tensor]:
    """Returns the tensors of a group by name, whole and on the CPU. Raises CheckpointError."""
    return {name: stored.read() for name, stored in open_group(folder, group).items()}


def describe_parts(parts: Mapping[str, tuple[int, tuple[int, ...]]]) -> dict[str, str]:
    """Returns the header of a file of parts: the first row and the whole shape of each of its tensors."""
    return {PARTS: json.dumps({name: [start, *shape] for name, (start, shape) in parts.items()})}
