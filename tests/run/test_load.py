"""What a run begins from: which checkpoint is chosen, which folder is a run's, and the base under runs and adapters."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fulgurite.config.compose import compose
from fulgurite.config.guard import Allowed
from fulgurite.errors import CheckpointError, ModelError
from fulgurite.model.config import Hf, SmolLM2
from fulgurite.model.smollm2 import HUB
from fulgurite.run.folder import write_run
from fulgurite.run.load import find_adapter_base, find_base
from fulgurite.run.sources import choose_checkpoint, hash_start, is_run, read_adapter_base


def make_checkpoints(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / "checkpoints" / name).mkdir(parents=True)
    return folder


@pytest.mark.parametrize("name", ["../checkpoints/last", "", "step-", "step-1a", "BEST", "best "])
def test_other_names_of_checkpoints_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not allowed: it must be best, last, or step-N"):
        choose_checkpoint(make_checkpoints(tmp_path, "best"), name)


def test_a_checkpoint_is_found_by_its_name_or_those_there_are_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_checkpoints(tmp_path / "run", "step-4", "step-8", "last")
    assert choose_checkpoint(folder, "step-4") == folder / "checkpoints" / "step-4"
    with pytest.raises(CheckpointError, match="has no whole checkpoint yet"):
        choose_checkpoint(folder, "best")  # these are empty
    newest = folder / "checkpoints" / "step-8"
    monkeypatch.setattr("fulgurite.run.sources.find_newest_whole", lambda _: (newest, []))
    assert choose_checkpoint(folder, "best") == newest
    with pytest.raises(CheckpointError, match="has no checkpoint step-9; there are last, step-4, step-8"):
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


def test_the_base_of_an_adapter_and_of_a_run_is_followed_to_its_end(tmp_path: Path) -> None:
    adapter, run = tmp_path / "adapter", tmp_path / "run"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "owner/name"}))
    assert find_base(Hf(path=str(adapter))) == Hf(path="owner/name")
    write_run(make_checkpoints(run, "last"), compose(["model=hf", f"model.path={adapter}"]))
    assert find_base(Hf(path=str(run))) == Hf(path="owner/name")
    assert find_base(SmolLM2()) == SmolLM2()


def test_an_adapter_names_its_base_and_the_command_line_what_its_code_may_do(tmp_path: Path) -> None:
    assert isinstance(find_adapter_base(HUB, Allowed()), SmolLM2)
    found = find_adapter_base("owner/name", Allowed(model_code=True, revision="0a"))
    assert isinstance(found, Hf)
    assert (found.path, found.trust_remote_code, found.revision) == ("owner/name", True, "0a")
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="is an adapter that names no base model; give the run it is from"):
        read_adapter_base(tmp_path)
