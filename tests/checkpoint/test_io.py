"""A checkpoint folder written through Lightning's interface: read back before it counts, never with code in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from fulgurite.checkpoint import folder, io
from fulgurite.checkpoint.read import read_weights
from fulgurite.errors import CheckpointError, TrainingFailed


def save(checkpoints: Path, step: int, size: int = 100) -> Path:
    generator = torch.Generator().manual_seed(step)
    tree = {
        "state_dict": {"w": torch.randn(size, generator=generator)},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.randn(size, generator=generator)}}}],
        "rng": torch.randint(255, (64,), generator=generator),
        "step": step,
    }
    io.FolderCheckpointIO().save_checkpoint(tree, checkpoints / f"step-{step}")
    return checkpoints / f"step-{step}"


def whole_step(path: Path) -> int:
    return io.FolderCheckpointIO().load_checkpoint(path)["step"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_weight_that_is_not_finite_is_never_published(tmp_path, value):
    before = save(tmp_path, 1)
    weight = torch.zeros(7)
    weight[3] = value
    with pytest.raises(TrainingFailed, match=r"1 of 7 values of layer\.weight are not finite"):
        io.FolderCheckpointIO().save_checkpoint({"state_dict": {"layer.weight": weight}}, tmp_path / "step-2")
    assert list(tmp_path.iterdir()) == [before]


class Payload:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


NAMES = ("a.ckpt", "a.pt", "a.pth", "a.bin", "optimizer.pt", "rng_state.pth", "training_args.bin", "a.npy", "a.pkl")


@pytest.mark.parametrize("name", NAMES)
def test_pickle_is_never_read(tmp_path, name):
    import pickle

    marker, content = tmp_path / "marker", pickle.dumps(Payload(tmp_path / "marker"))
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{name} is a file, which could run code when it is read"):
        io.FolderCheckpointIO().load_checkpoint(file)
    # beside the files of a whole checkpoint, and in their place under a manifest that vouches for it
    path = save(tmp_path / "checkpoints", 1)
    (path / name).write_bytes(content)
    assert whole_step(path) == 1
    for part in folder.PARTS:
        evil = tmp_path / "evil" / part / "step-1"
        with folder.write_checkpoint(evil, 0) as draft:
            for other in folder.PARTS:
                (draft / other).write_bytes(content if other == part else (path / other).read_bytes())
        with pytest.raises(CheckpointError, match=f"{part} cannot be read"):
            io.FolderCheckpointIO().load_checkpoint(evil)
    assert not marker.exists()


def test_what_was_saved_is_read_back_before_it_counts(tmp_path, monkeypatch):
    from fulgurite.checkpoint import io
    from fulgurite.errors import CheckpointError

    learned = {"a": torch.arange(4.0), "b": torch.ones(2)}

    def damaged(change):
        def save(tensors, path, metadata):
            real({k: change(k, v) for k, v in tensors.items() if change(k, v) is not None}, path, metadata)
        return save

    real = io.save_file
    for change, says in (
        (lambda k, v: v + 1 if k == "a" else v, "a reads back empty or changed"),
        (lambda k, v: None if k == "b" else v, "b is only in the file or only in the model"),
    ):
        monkeypatch.setattr(io, "save_file", damaged(change))
        with pytest.raises(CheckpointError, match=says):
            io.FolderCheckpointIO().save_checkpoint({"state_dict": learned}, tmp_path / "step-1")
        assert not (tmp_path / "step-1").exists()
    monkeypatch.setattr(io, "save_file", real)
    io.FolderCheckpointIO().save_checkpoint({"state_dict": learned}, tmp_path / "step-1")
    assert torch.equal(read_weights(tmp_path / "step-1")["a"], learned["a"])


def test_views_of_one_storage_are_saved_each_with_its_own_values(tmp_path):
    """safetensors refuses tensors that share memory; only those are copied."""
    whole, alone = torch.arange(6.0), torch.ones(2)
    apart = io._separate_storages({"whole": whole, "part": whole[2:4], "alone": alone})
    assert apart["alone"].data_ptr() == alone.data_ptr()
    assert apart["part"].data_ptr() != whole[2:4].data_ptr()
    tree = {"state_dict": {"whole": whole, "part": whole[2:4], "again": whole}}
    io.FolderCheckpointIO().save_checkpoint(tree, tmp_path / "step-1")
    found = read_weights(tmp_path / "step-1")
    assert {name: tensor.tolist() for name, tensor in found.items()} == {
        "whole": [0, 1, 2, 3, 4, 5], "part": [2, 3], "again": [0, 1, 2, 3, 4, 5],
    }


def test_load_checkpoint_returns_the_saved_tree(tmp_path):
    tree = {
        "state_dict": {"w": torch.tensor([1.0, 2.0])},
        "epoch": 3,
        "none": None,
        "optimizer_states": [
            {"state": {0: {"exp_avg": torch.tensor([0.5]), "step": 7}}, "param_groups": [{"lr": 0.1}]}
        ],
    }
    io.FolderCheckpointIO().save_checkpoint(tree, tmp_path / "step-1")
    found = io.FolderCheckpointIO().load_checkpoint(tmp_path / "step-1")
    assert torch.equal(found.pop("state_dict")["w"], tree["state_dict"]["w"])
    assert torch.equal(found["optimizer_states"][0]["state"][0].pop("exp_avg"), torch.tensor([0.5]))
    assert found == {
        "epoch": 3, "none": None, "optimizer_states": [{"state": {0: {"step": 7}}, "param_groups": [{"lr": 0.1}]}],
    }


def test_a_checkpoint_of_another_format_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(io, "FORMAT", 2)
    path = save(tmp_path, 1)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="has format 2, but this version reads format 1; use"):
        io.FolderCheckpointIO().load_checkpoint(path)


def test_remove_checkpoint_deletes_the_folder(tmp_path):
    before = save(tmp_path, 1)
    io.FolderCheckpointIO().remove_checkpoint(save(tmp_path, 2))
    assert list(tmp_path.iterdir()) == [before]
