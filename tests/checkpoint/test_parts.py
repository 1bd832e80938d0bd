"""Checkpoints that several processes write together: equal to one process's, whole or not there, damage is refused."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.checkpoint.parts import BIAS, WEIGHT, build_tree, connect, save_together, spread
from tests.strategy.together import run_together
from torch import Tensor

from fulgurite.checkpoint import folder, io
from fulgurite.checkpoint.read import read_weights
from fulgurite.checkpoint.shards import get_local, split_state, take_part
from fulgurite.checkpoint.stored import StoredTensor
from fulgurite.errors import CheckpointError, TrainingFailed

FILES = ["manifest.json", "optimizer-00001-of-00002.safetensors", "optimizer-00002-of-00002.safetensors",
         "state.json", "state.safetensors", "weights-00001-of-00002.safetensors", "weights-00002-of-00002.safetensors"]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that two processes wrote; copy it to change it."""
    place = tmp_path_factory.mktemp("written")
    run_together(2, lambda: save_together(place))
    return place / "step-1"


def check_equal(found: Any, expected: Any) -> None:
    """The same tree, bit for bit."""
    if isinstance(expected, Tensor):
        assert found.dtype is expected.dtype
        assert torch.equal(found, expected)
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            check_equal(found[key], value)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            check_equal(one, other)
    else:
        assert found == expected


def test_it_is_read_as_one_that_a_single_process_wrote(written: Path, tmp_path: Path) -> None:
    assert sorted(path.name for path in written.iterdir()) == FILES
    assert {oct(path.stat().st_mode & 0o777) for path in written.iterdir()} == {"0o600"}
    assert folder.find_faults(written) == []
    expected = build_tree(WEIGHT, BIAS, 1)
    io.FolderCheckpointIO().save_checkpoint(expected, tmp_path / "step-1")
    for place in (written, tmp_path / "step-1"):
        check_equal(io.FolderCheckpointIO().load_checkpoint(place), expected)
        check_equal(read_weights(place), expected["state_dict"])
    states = [json.loads((place / "state.json").read_bytes()) for place in (written, tmp_path / "step-1")]
    assert states[0] == states[1]


def take(place: Path) -> list[Any]:
    mesh, tree = connect(), io.FolderCheckpointIO().open_checkpoint(place)
    stored, like = tree["state_dict"]["weight"], spread(torch.zeros(5, 3), mesh)
    assert isinstance(stored, StoredTensor)
    part: Any = take_part(stored, like)
    assert torch.equal(part.full_tensor(), WEIGHT)
    assert torch.equal(take_part(stored, torch.zeros(5, 3)), WEIGHT)
    saved = tree["optimizer_states"][0]["state"][0]
    assert isinstance(saved["exp_avg"], StoredTensor)
    state = split_state(saved, like)
    assert torch.equal(state["step"], torch.tensor(3.0))
    assert torch.equal(get_local(state["exp_avg"]), get_local(part) + 1)
    return [get_local(part), take_part(tree["state_dict"]["bias"], spread(torch.zeros(1), mesh)).shape]


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_any_number_of_processes_take_their_parts(count: int, written: Path) -> None:
    found = run_together(count, lambda: take(written))
    assert torch.equal(torch.cat([part for part, _ in found]), WEIGHT)
    assert all(shape == (1,) for _, shape in found)


def test_copies_are_written_once(tmp_path: Path) -> None:
    run_together(2, lambda: save_together(tmp_path, groups=2))
    check_equal(io.FolderCheckpointIO().load_checkpoint(tmp_path / "step-1"), build_tree(WEIGHT, BIAS, 1))
    sizes = [(tmp_path / "step-1" / name).stat().st_size for name in FILES if name.startswith("weights")]
    assert sizes[1] < sizes[0] / 2


# -- what fails in one process fails in all, and leaves what was there ------------------------------------------------


def save_and_fail(place: Path, failing: int, fail: Any) -> str:
    """Saves step 2 with `fail()` called before in one process; the sentence that this one raises."""
    if int(os.environ["RANK"]) == failing:
        fail()
    with pytest.raises((TrainingFailed, CheckpointError)) as caught:
        save_together(place, 2)
    return str(caught.value)


def limit_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def spoil_weight() -> None:
    WEIGHT[4, 2] = torch.inf  # the first process hands out the rows; this one is the second's


def lose_a_bit() -> None:
    usual = io._save

    def save(tensors: Any, path: Path) -> None:
        usual(tensors, path)
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))

    io._save = save


def hide_files() -> None:
    io.describe_file = lambda path, durable=False: path.unlink() or {"size": 1, "sha256": ""}  # type: ignore[assignment]


def fill_disk() -> None:
    shutil.disk_usage = lambda path: shutil._ntuple_diskusage(10**6, 10**6, 0)  # type: ignore[attr-defined,assignment]


FAILURES = {
    "disk": (1, limit_files, "step-2 could not be written: File too large. It needs"),
    "space": (0, fill_disk, "step-2 could not be written: not enough free disk space. It needs"),
    "weight": (0, spoil_weight, "step-2 was not written: 1 of 6 values of weight are not finite"),
    "memory": (1, lose_a_bit, "reads back empty or changed; check the disk and the memory of this machine"),
    "unshared": (1, hide_files, "the first process does not see weights-00002-of-00002.safetensors, which another"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_what_fails_in_one_process_fails_in_all_and_leaves_what_was_there(name: str, tmp_path: Path) -> None:
    rank, fail, sentence = FAILURES[name]
    io.FolderCheckpointIO().save_checkpoint(build_tree(WEIGHT, BIAS, 1), tmp_path / "step-1")
    found = run_together(2, lambda: save_and_fail(tmp_path, rank, fail))
    assert found[0] == found[1]
    assert sentence in found[0]
    assert [path.name for path in tmp_path.iterdir()] == ["step-1"]
    check_equal(io.FolderCheckpointIO().load_checkpoint(tmp_path / "step-1"), build_tree(WEIGHT, BIAS, 1))


def die_while_writing(place: Path, rank: int) -> None:
    if int(os.environ["RANK"]) == rank:
        io._read_back = lambda *given: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
    save_together(place, 2)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_is_killed_while_it_writes_leaves_the_earlier_checkpoint(rank: int, tmp_path: Path) -> None:
    io.FolderCheckpointIO().save_checkpoint(build_tree(WEIGHT, BIAS, 1), tmp_path / "step-1")
    with pytest.raises(AssertionError):
        run_together(2, lambda: die_while_writing(tmp_path, rank))
    assert folder.list_steps(tmp_path) == [1]  # a draft may be left, which no reader takes for a checkpoint
    assert folder.find_newest_whole(tmp_path) == (tmp_path / "step-1", [])
    run_together(2, lambda: save_together(tmp_path, 2))
    assert folder.find_newest_whole(tmp_path) == (tmp_path / "step-2", [])


# -- damage ------------------------------------------------------------------------------------------------------------


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def change(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


@pytest.mark.parametrize("name", [name for name in FILES if "-of-" in name])
@pytest.mark.parametrize(("damage", "fault"), [
    (Path.unlink, "is missing"), (cut_short, "bytes instead of"), (change, "differs from its sha256"),
])
def test_a_part_that_is_missing_or_damaged_is_refused(
    name: str, damage: Any, fault: str, written: Path, tmp_path: Path
) -> None:
    place = shutil.copytree(written, tmp_path / "step-1")
    damage(place / name)
    with pytest.raises(CheckpointError, match=rf"step-1 is not a whole checkpoint: {name} .*{fault}|{fault}"):
        read_weights(place)
    assert folder.find_newest_whole(tmp_path)[0] is None


def test_a_part_that_the_manifest_does_not_know_either_is_missed(written: Path, tmp_path: Path) -> None:
    place, gone = shutil.copytree(written, tmp_path / "step-1"), "optimizer-00001-of-00002.safetensors"
    (place / gone).unlink()
    manifest = json.loads((place / "manifest.json").read_text())
    del manifest["files"][gone]
    (place / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match=f"manifest.json does not list {gone}"):
        read_weights(place)
