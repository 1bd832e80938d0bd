"""Folders that a model is loaded from: which checkpoint is chosen, and which folder is a run's."""

from __future__ import annotations

from pathlib import Path

import pytest

from fulgurite.errors import CheckpointError, ModelError
from fulgurite.model.config import Hf, SmolLM2
from fulgurite.run.sources import choose_checkpoint, hash_start, is_run, read_adapter_base


def make_checkpoints(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / "checkpoints" / name).mkdir(parents=True)
    return folder


@pytest.mark.parametrize("name", ["../checkpoints/last", "", "step-", "step-1a", "BEST", "best "])
def test_other_names_of_checkpoints_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not valid; use best, last or step-N"):
        choose_checkpoint(make_checkpoints(tmp_path, "best"), name)


def test_a_checkpoint_is_found_by_name_or_the_names_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_checkpoints(tmp_path / "run", "step-4", "step-8", "last")
    assert choose_checkpoint(folder, "step-4") == folder / "checkpoints" / "step-4"
    with pytest.raises(CheckpointError, match="has no whole checkpoint yet"):
        choose_checkpoint(folder, "best")  # these are empty
    newest = folder / "checkpoints" / "step-8"
    monkeypatch.setattr("fulgurite.run.sources.find_newest_whole", lambda _: (newest, []))
    assert choose_checkpoint(folder, "best") == newest
    with pytest.raises(CheckpointError, match="has no checkpoint step-9; it has last, step-4, step-8"):
        choose_checkpoint(folder, "step-9")


def test_a_run_s_folder_has_a_config_and_checkpoints(tmp_path: Path) -> None:
    make_checkpoints(tmp_path, "last")
    assert not is_run(tmp_path)
    (tmp_path / "config.yaml").write_text("")
    assert is_run(tmp_path)
    assert hash_start(SmolLM2()) == hash_start(Hf(path=str(tmp_path / "checkpoints"))) == {}
    (tmp_path / "checkpoints" / "best").mkdir()
    manifest = tmp_path / "checkpoints" / "best" / "manifest.json"
    manifest.write_text("{}")
    first = hash_start(Hf(path=str(tmp_path)))["start"]
    manifest.write_text("{ }")
    assert len(first) == 32
    assert hash_start(Hf(path=str(tmp_path)))["start"] != first


def test_an_adapter_without_a_base_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "adapter_config.json"
    file.write_text('{"base_model_name_or_path": "owner/name"}')
    assert read_adapter_base(tmp_path) == "owner/name"
    file.write_text("{}")
    with pytest.raises(ModelError, match="is an adapter that names no base model; give its run instead"):
        read_adapter_base(tmp_path)
