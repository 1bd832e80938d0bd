"""Reading the tensors of a checkpoint folder: equal to what was saved, own copies, and only from a whole folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from fulgurite.checkpoint.io import FolderCheckpointIO
from fulgurite.checkpoint.read import check_folder, load_tensors, read_weights
from fulgurite.errors import CheckpointError

WEIGHTS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1.5, -2.0], dtype=torch.bfloat16)}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    FolderCheckpointIO().save_checkpoint({"state_dict": dict(WEIGHTS), "step": 4}, tmp_path / "step-4")
    return tmp_path / "step-4"


def test_read_weights_returns_what_was_saved(saved: Path) -> None:
    found = read_weights(saved)
    assert found.keys() == WEIGHTS.keys()
    for name, tensor in WEIGHTS.items():
        assert found[name].dtype is tensor.dtype
        assert torch.equal(found[name], tensor)


def test_tensors_outlive_their_file(saved: Path) -> None:
    """A mapped tensor would change with the file, or end the process."""
    found = load_tensors(saved / "weights.safetensors")
    file = saved / "weights.safetensors"
    file.write_bytes(b"\0" * file.stat().st_size)
    shutil.rmtree(saved)
    assert torch.equal(found["a"], WEIGHTS["a"])


def test_check_folder_resolves_links(saved: Path) -> None:
    (saved.parent / "last").symlink_to("step-4")
    assert check_folder(saved.parent / "last") == saved.resolve()


def test_a_missing_or_damaged_folder_is_refused(saved: Path) -> None:
    with pytest.raises(
        CheckpointError, match="step-5 is not a whole checkpoint: it is not a folder; use an earlier one"
    ):
        check_folder(saved.with_name("step-5"))
    (saved / "weights.safetensors").write_bytes(b"no tensors")
    with pytest.raises(CheckpointError, match=r"step-4 is not a whole checkpoint: weights\.safetensors has 10 bytes"):
        read_weights(saved)
    with pytest.raises(CheckpointError, match=r"weights\.safetensors cannot be read: .*; use an earlier checkpoint"):
        load_tensors(saved / "weights.safetensors")


def test_a_single_file_is_refused_unread(tmp_path: Path) -> None:
    file = tmp_path / "model.ckpt"
    file.write_bytes(b"cposix\nsystem\n(S'false'\ntR.")
    with pytest.raises(CheckpointError, match=r"model\.ckpt is a file, which could run code when it is read"):
        read_weights(file)
