"""Tokenises a data set once, streaming to disk, and reads it back as memory-mapped arrays.

HF datasets was looked at: its cache key is a fingerprint of pickled functions, which neither sees a changed tokenizer file
nor is free of pickle. Arrays of numbers under a hash of the content are all that training needs.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from fulgurite import __version__
from fulgurite.data.config import Data
from fulgurite.data.records import Bad, Example, Place
from fulgurite.data.source import Source
from fulgurite.data.template import Template
from fulgurite.errors import DataError, RequestError

LAYOUT = 1
ARRAYS = {"ids": np.int32, "learn": np.uint8, "offsets": np.int64, "files": np.int32, "lines": np.int64}
FLUSH = 1 << 16


@dataclass(slots=True)
class Encoded:
    """Tokenised examples: example i has tokens `ids[offsets[i]:offsets[i+1]]`, of which `learn` marks the learned ones."""

    key: str
    source: Source
    arrays: dict[str, Any]

    def __len__(self) -> int:
        return len(self.arrays["offsets"]) - 1

    @property
    def lengths(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Tokens of each example."""
        lengths: np.ndarray[Any, np.dtype[np.int64]] = np.diff(self.arrays["offsets"])
        return lengths

    @property
    def percentile_99(self) -> int:
        """The length that 99 of 100 examples do not exceed."""
        return int(np.ceil(np.percentile(self.lengths, 99))) if len(self) else 0

    def example(self, i: int) -> tuple[Any, Any]:
        """`ids` int64 [T] and `learn` bool [T] of example i."""
        begin, end = self.arrays["offsets"][i : i + 2]
        return self.arrays["ids"][begin:end].astype(np.int64), self.arrays["learn"][begin:end].astype(bool)

    def file(self, i: int) -> int:
        """The number of the file that example i is from."""
        return int(self.arrays["files"][i])

    def place(self, i: int) -> Place:
        """Where example i stands."""
        return Place(str(self.source.files[self.file(i)]), int(self.arrays["lines"][i]))


def encode(source: Source, tokenizer: PreTrainedTokenizerBase, template: Template, config: Data, cache_dir: Path) -> Encoded:
    """The tokenised data set, from the cache where nothing that matters has changed. Raises DataError with the place."""
    key = key_of(source, tokenizer, config)
    folder = cache_dir / "data" / key
    arrays = _read(folder)
    if arrays is None:
        _build(source, tokenizer, template, config, folder)
        arrays = _read(folder)
    if arrays is None:
        raise RequestError(f"{folder} cannot be read back after writing; check the disk, or set FULGURITE_CACHE to another.")
    return Encoded(key, source, arrays)


def key_of(source: Source, tokenizer: PreTrainedTokenizerBase, config: Data) -> str:
    """A hash of the files' content, the tokenizer, the template, the settings that matter here, and our version."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    words = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    settings = [LAYOUT, __version__, source.stage, str(source.format), source.columns, str(config.mask), len(source.train), tokenizer.chat_template]
    settings += [tokenizer.eos_token, tokenizer.bos_token]
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    digest.update(words.encode())
    for path in source.files:
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:32]


def _build(source: Source, tokenizer: PreTrainedTokenizerBase, template: Template, config: Data, folder: Path) -> None:
    beside = folder.with_name(f"{folder.name}.tmp-{os.getpid()}")
    try:
        beside.mkdir(parents=True, exist_ok=True)
        _write(source, tokenizer, template, config, beside)
        if folder.exists():  # damaged, or _read would have taken it
            shutil.rmtree(folder, ignore_errors=True)
        try:
            beside.rename(folder)
        except OSError:
            if not folder.exists():  # else another process was faster, which is as good
                raise
    except OSError as error:
        raise RequestError(f"{folder} cannot be written ({error.strerror or error}); set FULGURITE_CACHE to a folder with room.") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _write(source: Source, tokenizer: PreTrainedTokenizerBase, template: Template, config: Data, folder: Path) -> None:
    ids, learn = array("i"), array("B")
    offsets, files, lines = array("q", [0]), array("i"), array("q")
    with (folder / "ids.bin").open("wb") as ids_out, (folder / "learn.bin").open("wb") as learn_out:
        for example in source.examples():
            if isinstance(example, Bad):
                continue  # counted by Source.check, which allowed it
            tokens, marks = _tokens(example, tokenizer, template, config)
            ids.extend(tokens)
            learn.extend(map(int, marks))
            offsets.append(offsets[-1] + len(tokens))
            files.append(example.file)
            lines.append(example.place.line)
            if len(ids) > FLUSH:
                ids.tofile(ids_out)
                learn.tofile(learn_out)
                del ids[:], learn[:]
        ids.tofile(ids_out)
        learn.tofile(learn_out)
    for name, values in (("offsets", offsets), ("files", files), ("lines", lines)):
        with (folder / f"{name}.bin").open("wb") as out:
            values.tofile(out)
    manifest = {name: _sha256(folder / f"{name}.bin") for name in ARRAYS}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def _tokens(example: Example, tokenizer: PreTrainedTokenizerBase, template: Template, config: Data) -> tuple[Sequence[int], Sequence[bool]]:
    if example.text is not None:
        ids = [int(i) for i in tokenizer(example.text)["input_ids"]]
        if tokenizer.eos_token_id is not None and ids[-1:] != [tokenizer.eos_token_id]:
            ids.append(int(tokenizer.eos_token_id))
        return ids, [True] * len(ids)
    try:
        return template.encode_chat(example.messages or (), config.mask)
    except DataError as error:
        raise DataError(f"{example.place}: {error}") from error


def _read(folder: Path) -> dict[str, Any] | None:
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        if any(_sha256(folder / f"{name}.bin") != manifest[name] for name in ARRAYS):
            return None
        return {name: _mapped(folder / f"{name}.bin", kind) for name, kind in ARRAYS.items()}
    except (OSError, ValueError, KeyError):
        return None


def _mapped(path: Path, kind: Any) -> Any:
    return np.memmap(path, dtype=kind, mode="r") if path.stat().st_size else np.zeros(0, dtype=kind)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
