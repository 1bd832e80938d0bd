"""Tensors that are read from the files of a checkpoint when they are needed: whole, or some of their rows."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from fulgurite.checkpoint.folder import name_part
from fulgurite.checkpoint.stored import describe_parts, open_group, read_group
from fulgurite.errors import CheckpointError

WHOLE = torch.arange(15).view(5, 3).to(torch.bfloat16)


def write_part(folder: Path, number: int, count: int, start: int, rows: Tensor, shape: tuple[int, ...]) -> None:
    """Writes the file of a process, with rows of one tensor."""
    save_file({"a": rows.clone()}, folder / name_part("weights", number, count), describe_parts({"a": (start, shape)}))


def write_parts(folder: Path, *bounds: tuple[int, int]) -> None:
    """Writes a file for each pair of first row and end."""
    for number, (start, stop) in enumerate(bounds):
        write_part(folder, number, len(bounds), start, WHOLE[start:stop], tuple(WHOLE.shape))


@pytest.mark.parametrize("bounds", [[(0, 5)], [(0, 3), (3, 5)], [(2, 4), (0, 2), (4, 5)]], ids=str)
def test_any_rows_are_those_of_the_whole_tensor(bounds: list[tuple[int, int]], tmp_path: Path) -> None:
    write_parts(tmp_path, *bounds)
    stored = open_group(tmp_path, "weights")["a"]
    assert (stored.shape, stored.ndim) == ((5, 3), 2)
    for start in range(6):
        for stop in range(start, 6):
            found = stored.read(start, stop)
            assert found.dtype is WHOLE.dtype
            assert found.shape == WHOLE[start:stop].shape
            assert torch.equal(found, WHOLE[start:stop])
    assert torch.equal(read_group(tmp_path, "weights")["a"], WHOLE)


def test_a_tensor_that_is_not_divided_is_read_from_the_only_file_that_has_it(tmp_path: Path) -> None:
    write_parts(tmp_path, (0, 3), (3, 5))
    save_file({"step": torch.tensor(3.0), "a": WHOLE[:3].clone()}, tmp_path / name_part("weights", 0, 2),
        describe_parts({"a": (0, (5, 3))}))
    found = read_group(tmp_path, "weights")
    assert torch.equal(found["step"], torch.tensor(3.0))
    assert torch.equal(found["a"], WHOLE)


def test_one_file_is_read_in_the_same_way_and_outlived(tmp_path: Path) -> None:
    save_file({"a": WHOLE, "count": torch.tensor(2)}, tmp_path / "weights.safetensors")
    stored = open_group(tmp_path, "weights")
    rows, count = stored["a"].read(1, 3), stored["count"].read()
    shutil.rmtree(tmp_path)
    assert torch.equal(rows, WHOLE[1:3])
    assert int(count) == 2


@pytest.mark.parametrize(("bounds", "row"), [
    ([(0, 3)], 3), ([(2, 5)], 0), ([(0, 2), (3, 5)], 2), ([(0, 3), (2, 5)], 3), ([(0, 5), (0, 5)], 5),
], ids=str)
def test_a_missing_row_and_one_that_is_there_twice_are_refused(
    bounds: list[tuple[int, int]], row: int, tmp_path: Path
) -> None:
    write_parts(tmp_path, *bounds)
    with pytest.raises(CheckpointError, match=f"not every row of a once: row {row} is missing or is there twice"):
        open_group(tmp_path, "weights")


@pytest.mark.parametrize("shape", [(4, 3), (5, 4), (5,), (5, 3, 1), ()], ids=str)
def test_a_part_of_another_tensor_is_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    write_parts(tmp_path, (0, 3), (3, 5))
    write_part(tmp_path, 1, 2, 3, WHOLE[3:5], shape)
    with pytest.raises(CheckpointError, match=r"weights-00002-of-00002\.safetensors cannot be read: .*earlier"):
        open_group(tmp_path, "weights")


@pytest.mark.parametrize("header", ["[", '{"a": 1}', '{"a": []}', '{"a": ["x", 5, 3]}', "[1]"])
def test_a_header_that_is_not_ours_is_refused(header: str, tmp_path: Path) -> None:
    save_file({"a": WHOLE}, tmp_path / "weights.safetensors", {"parts": header})
    with pytest.raises(CheckpointError, match=r"weights\.safetensors cannot be read: .*; use an earlier checkpoint"):
        open_group(tmp_path, "weights")
