"""model=hf: what it loads, and one sentence if a folder or hub id cannot be loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.model.folders import load_folder, load_model

from fulgurite.errors import ModelError
from fulgurite.model.config import Hf, Tiny
from fulgurite.model.hf import outline


def test_a_folder_is_loaded_as_it_was_saved(folder: Path) -> None:
    again, first = load_folder(folder), load_model(Tiny())
    assert again.length == 1024
    assert again.model.config.use_cache is False
    for a, b in zip(first.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: (f / "config.json").unlink(), "has no config.json"),
        (lambda f: (f / "config.json").write_text("{"), r"config\.json: not JSON"),
        (lambda f: (f / "adapter_config.json").write_text("{}"), "is an adapter, not a whole model"),
        (lambda f: (f / "model.safetensors").write_bytes(b"\0" * 99), "cannot be loaded as a causal language model"),
    ],
)
def test_a_damaged_folder_is_refused_in_one_sentence(folder: Path, spoil: object, said: str) -> None:
    spoil(folder)  # type: ignore[operator]
    with pytest.raises(ModelError, match=said) as caught:
        load_folder(folder)
    assert "\n" not in str(caught.value)


def test_no_path_and_a_hub_out_of_reach_are_refused() -> None:
    with pytest.raises(ModelError, match=r"needs model\.path"):
        load_model(Hf())
    with pytest.raises(ModelError, match="is not a local folder, and the hub cannot be reached or does not have it"):
        load_model(Hf(path="nobody/nothing-here"))


def test_a_run_is_not_a_model(folder: Path) -> None:
    (folder / "config.yaml").write_text("")
    (folder / "checkpoints").mkdir()
    with pytest.raises(ModelError, match="is a run, not a model; export it first: fulgurite export run="):
        load_folder(folder)


def test_the_outline_of_a_folder_is_that_of_its_model(folder: Path) -> None:
    (folder / "model.safetensors").unlink()  # no weights are read
    shape, tokenizer = outline(Hf(path=str(folder)))
    tiny = load_model(Tiny())
    assert (shape.hidden_size, shape.num_hidden_layers) == (tiny.model.config.hidden_size, 2)
    assert tokenizer.get_vocab() == tiny.tokenizer.get_vocab()
