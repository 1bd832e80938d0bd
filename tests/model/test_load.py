"""Models come in as data: safetensors only, no code of theirs, one sentence where that cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tests.model.folders import load_folder
from transformers import (
    AutoTokenizer,
)

from fulgurite.errors import ModelError


class Marker:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.ckpt"])
def test_a_pickle_is_never_read(folder: Path, tmp_path: Path, name: str) -> None:
    import pickle

    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(Marker(tmp_path / "owned")))
    with pytest.raises(ModelError, match="safetensors"):
        load_folder(folder)
    assert not (tmp_path / "owned").exists()


def test_a_models_own_code_does_not_run_unless_pinned(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"auto_map": {"AutoConfig": "code.C", "AutoModelForCausalLM": "code.M"}, "model_type": "strange"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text(f"open({str(tmp_path / 'owned')!r}, 'w')\n")
    with pytest.raises(
        ModelError, match=r"Python code; read it, then add model\.trust_remote_code=true model\.revision=sha256:\w{64}$"
    ):
        load_folder(folder)
    for revision in (None, "main", "a" * 40, f"sha256:{'a' * 64}"):
        with pytest.raises(ModelError, match=r"the hash of the Python code in .*model\.revision=sha256:\w{64}$"):
            load_folder(folder, revision=revision, code=True)
    assert not (tmp_path / "owned").exists()


def test_a_token_of_the_tokenizer_without_a_row_can_be_given_one(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<city>"])
    tokenizer.save_pretrained(folder)
    before = load_folder(folder).model.get_input_embeddings().weight
    found = load_folder(folder, tokens=("<city>",))
    after = found.model.get_input_embeddings().weight
    assert len(after) == len(before) + 1
    assert torch.allclose(after[-1], before.mean(0), atol=1e-7)
    assert found.model.new_token_ids == [len(before)]
    with pytest.raises(ModelError, match="'<|pad|>' is a token already".replace("|", "[|]")):
        load_folder(folder, tokens=("<|pad|>",))


def test_a_pair_of_tokenizers_is_refused(folder: Path) -> None:
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"tokenizer_class": "RagTokenizer"}))
    with pytest.raises(ModelError, match="RagTokenizer is not a tokenizer for a single text"):
        load_folder(folder)
