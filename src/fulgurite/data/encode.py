"""Tokenises a data set once, streaming to disk, and reads it back as memory-mapped arrays.

HF datasets was looked at: its cache key is a fingerprint of pickled functions, which neither sees a changed tokenizer file
nor is free of pickle. Arrays of numbers under a hash of the content are all that training needs.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from fulgurite import __version__
from fulgurite.data.compared import FORMATS
from fulgurite.data.config import Data, Mask
from fulgurite.data.records import Example, Message, Place
from fulgurite.data.source import Source
from fulgurite.data.template import Learned, Plan, Template
from fulgurite.errors import DataError, RequestError

LAYOUT = 3
ARRAYS = {
    "ids": np.int32, "learn": np.uint8, "offsets": np.int64, "files": np.int32, "lines": np.int64, "flags": np.uint8,
    "seconds": np.int64, "margins": np.float64,
}
STOP_INSIDE, MISSED, GOOD = 1, 2, 4
"""Flags of an example: an answer holds the text of an end token; an earlier answer could not be learned; judged good."""
CHUNK = 256
"""Examples that are tokenised at one time."""
STALE = 3600.0
"""Seconds after which a draft that no process writes to was left by a killed one."""
Ints = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(slots=True)
class Encoded:
    """Tokenised examples: example i has tokens `ids[offsets[i]:offsets[i+1]]`, of which `learn` marks the learned ones.

    A pair has both its sides there, one after the other; the second begins at token `seconds[i]`, elsewhere that is its end.
    """

    key: str
    source: Source
    arrays: dict[str, Any]
    fresh: bool = False
    """Whether it was tokenised now, not found in the cache."""

    def __len__(self) -> int:
        return len(self.arrays["offsets"]) - 1

    @property
    def lengths(self) -> Ints:
        """Tokens of each example; of a pair those of its longer side."""
        whole: Ints = np.diff(self.arrays["offsets"])
        seconds: Ints = self.arrays["seconds"]
        longer: Ints = np.maximum(seconds, whole - seconds)
        return longer

    @property
    def percentile_99(self) -> int:
        """The length that 99 of 100 examples do not exceed."""
        return int(np.ceil(np.percentile(self.lengths, 99))) if len(self) else 0

    @property
    def compares(self) -> bool:
        """Whether the examples are pairs or judged answers."""
        return any(format in FORMATS for format in self.source.formats)

    def sides(self, i: int) -> list[tuple[int, int]]:
        """First token and last (excluded) of each side of example i: two of a pair, else one."""
        whole = int(self.arrays["offsets"][i + 1] - self.arrays["offsets"][i])
        second = int(self.arrays["seconds"][i])
        return [(0, second)] if second == whole else [(0, second), (second, whole)]

    def tokens(self, i: int, begin: int, end: int) -> tuple[Ints, np.ndarray[Any, np.dtype[np.bool_]]]:
        """Tokens `begin` to `end` (excluded) of example i: `ids` int64 [T] and `learn` bool [T]."""
        start = int(self.arrays["offsets"][i])
        piece = slice(start + begin, start + end)
        return self.arrays["ids"][piece].astype(np.int64), self.arrays["learn"][piece].astype(bool)

    def labels(self, i: int, begin: int, end: int) -> int:
        """How many tokens of `begin` to `end` (excluded) of example i are predicted: the learned ones but the first."""
        start = int(self.arrays["offsets"][i])
        return int(np.count_nonzero(self.arrays["learn"][start + begin + 1 : start + end]))

    def flagged(self, i: int, flag: int) -> bool:
        """Whether example i has `flag`."""
        return bool(self.arrays["flags"][i] & flag)

    def file(self, i: int) -> int:
        """The number of the file that example i is from."""
        return int(self.arrays["files"][i])

    def place(self, i: int) -> Place:
        """Where example i stands."""
        return Place(str(self.source.files[self.file(i)]), int(self.arrays["lines"][i]))


def encode(source: Source, tokenizer: PreTrainedTokenizerBase, template: Template, config: Data, cache_dir: Path) -> Encoded:
    """The tokenised data set, from the cache where nothing that matters has changed.

    Raises DataError with the place of what cannot be tokenised, RequestError where the cache cannot be written. The key has no
    `data.max_length` in it: what is kept is whole, and cut afterwards.
    """
    if source.checked is None:
        source.check()
    key = key_of(source, tokenizer, config)
    folder = cache_dir / "data" / key
    arrays, fresh = _read(folder), False
    for _ in range(3):  # another process may be putting its own, equal result in this place at this instant
        if arrays is not None:
            return Encoded(key, source, arrays, fresh)
        _build(source, tokenizer, template, config, folder)
        arrays, fresh = _read(folder), True
    if arrays is None:
        raise RequestError(f"{folder} cannot be read back after writing; check the disk, or set FULGURITE_CACHE to another.")
    return Encoded(key, source, arrays, fresh)


def key_of(source: Source, tokenizer: PreTrainedTokenizerBase, config: Data) -> str:
    """A hash of the files' content, the tokenizer, the template, the settings that matter here, and our version."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    words = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    settings = [
        LAYOUT, __version__, source.stage, [str(f) for f in source.formats], source.columns, str(config.mask),
        tokenizer.chat_template, tokenizer.eos_token, tokenizer.bos_token,
    ]
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    digest.update(words.encode())
    for path in source.files:
        digest.update(bytes.fromhex(_sha256(path)))
    return digest.hexdigest()[:32]


def _build(source: Source, tokenizer: PreTrainedTokenizerBase, template: Template, config: Data, folder: Path) -> None:
    """Write the arrays beside their place, then rename: others see them whole or not at all."""
    beside = folder.with_name(f"{folder.name}.tmp-{os.getpid()}")
    try:
        _sweep(folder.parent)
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        _write(source, tokenizer, template, config, beside)
        if folder.exists() and _read(folder) is None:  # damaged
            folder.rename(beside.with_name(f"{beside.name}.bad"))
        try:
            beside.rename(folder)
        except OSError:
            if not folder.exists():  # else another process was faster, which is as good
                raise
    except OSError as error:
        raise RequestError(f"{folder} cannot be written ({error.strerror or error}); set FULGURITE_CACHE to a folder with room.") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        shutil.rmtree(beside.with_name(f"{beside.name}.bad"), ignore_errors=True)


def _sweep(parent: Path) -> None:
    """Remove what killed processes left."""
    for draft in parent.glob("*.tmp-*"):
        times = [p.stat().st_mtime for p in (draft, *draft.glob("*")) if p.exists()]
        if times and max(times) < time.time() - STALE:
            shutil.rmtree(draft, ignore_errors=True)


def _write(source: Source, tokenizer: PreTrainedTokenizerBase, template: Template, config: Data, folder: Path) -> None:
    offsets, files, lines, flags, seconds, margins = array("q", [0]), array("i"), array("q"), array("B"), array("q"), array("d")
    with (folder / "ids.bin").open("wb") as ids_out, (folder / "learn.bin").open("wb") as learn_out:
        good = (e for e in source.examples() if isinstance(e, Example))  # the others were counted by Source.check, which allowed them
        while chunk := list(islice(good, CHUNK)):
            tokens = _tokens(chunk, tokenizer, template, config, source.asks)
            for example, (learned, flag, second) in zip(chunk, tokens, strict=True):
                array("i", learned.ids).tofile(ids_out)
                learn_out.write(bytes(learned.learn))
                offsets.append(offsets[-1] + len(learned.ids))
                files.append(example.file)
                lines.append(example.place.line)
                flags.append(flag | GOOD * bool(example.good))
                seconds.append(len(learned.ids) if second is None else second)
                margins.append(example.margin)
    kept: dict[str, array[Any]] = {
        "offsets": offsets, "files": files, "lines": lines, "flags": flags, "seconds": seconds, "margins": margins,
    }
    for name, values in kept.items():
        with (folder / f"{name}.bin").open("wb") as out:
            values.tofile(out)
    manifest = {name: _sha256(folder / f"{name}.bin") for name in ARRAYS}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def _tokens(
    chunk: list[Example], tokenizer: PreTrainedTokenizerBase, template: Template, config: Data, asks: bool
) -> Iterator[tuple[Learned, int, int | None]]:
    """The tokens of each example, its flags, and where the second side of a pair begins; of a prompt all tokens count, for nothing of
    it is learned."""
    if chunk[0].text is not None:
        end = tokenizer.eos_token_id
        if end is None:
            raise DataError("The tokenizer has no end token to put after each document; set eos_token in its tokenizer_config.json.")
        for ids in tokenizer([e.text for e in chunk], verbose=False)["input_ids"]:
            whole = ids if ids[-1:] == [end] else [*ids, end]
            yield Learned(whole, [True] * len(whole)), 0, None
        return
    if asks:
        for example in chunk:
            try:
                ids = template.encode_prompt(example.messages or ())
            except DataError as error:
                raise DataError(f"{example.place}: field 'prompt': {error}") from error
            yield Learned(ids, [True] * len(ids)), 0, None
        return
    plans: list[list[Plan]] = []
    for example in chunk:
        mask = Mask.last if example.rejected is not None or example.good is not None else config.mask  # what is compared is the last answer
        try:
            plans.append([template.plan(messages, mask) for messages in _ends(example)])
        except DataError as error:
            raise DataError(f"{example.place}: field 'messages': {error}") from error
    tokens = iter(template.tokenise([text for both in plans for plan in both for text in plan.texts]))
    for example, both in zip(chunk, plans, strict=True):
        sides = [template.join(plan, list(islice(tokens, len(plan.texts)))) for plan in both]
        stops = any(template.holds_stop(messages) for messages in _ends(example))
        flag = STOP_INSIDE * stops + MISSED * any(side.missed for side in sides)
        whole = Learned([i for side in sides for i in side.ids], [on for side in sides for on in side.learn])
        yield whole, flag, len(sides[0].ids) if len(sides) > 1 else None


def _ends(example: Example) -> list[tuple[Message, ...]]:
    """The conversation, and of a pair the one with the worse answer."""
    return [example.messages or ()] + ([example.rejected] if example.rejected is not None else [])


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
