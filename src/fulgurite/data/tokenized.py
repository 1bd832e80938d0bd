"""Tokenizes a dataset once, streaming to disk, and reads it back as memory-mapped arrays.

HF datasets is not used: its cache key is a fingerprint of pickled functions, which does not notice a changed tokenizer
file. Training needs only arrays of numbers under a hash of the content.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from fulgurite import __version__
from fulgurite.data.answers import RowPlan
from fulgurite.data.cache import wait_for_others
from fulgurite.data.config import Data, Mask, SpecialTokens, TooLong
from fulgurite.data.example import Conversation, Example, Place
from fulgurite.data.fingerprint import Fingerprint, find_longest_content
from fulgurite.data.preference_format import FORMATS
from fulgurite.data.source import Checked, Source
from fulgurite.data.special_tokens import SpecialTexts
from fulgurite.data.template import Learned, Template, encode_texts
from fulgurite.errors import DataError, RequestError
from fulgurite.files.atomic import remove_drafts, write_folder
from fulgurite.files.manifest import find_damage, write_manifest
from fulgurite.language.library_errors import translate_system_error

LAYOUT = 7
ARRAYS = {
    "ids": np.int32, "learn": np.uint8, "offsets": np.int64, "files": np.int32, "lines": np.int64, "flags": np.uint16,
    "seconds": np.int64, "margins": np.float64,
}
STOP_INSIDE, MISSED, GOOD, CONTINUES = 1, 2, 4, 8
"""Flags of an example: an answer contains the text of an end token; an earlier answer could not be learned; judged
good; a further answer of the record before it, in a row of its own. `template_dialect` and `answers` define more."""
SPECIAL_INSIDE = 256
"""Flag of an example: it contains the text of a special token."""
TOO_LONG = 512
"""Flag of an example without tokens, because it is far longer than data.max_length can be; `seconds` has a lower bound
of its tokens."""
CHARACTERS_A_TOKEN = 12
LONG = 1 << 20
"""Characters of a message from which on its beginning is tried first."""
CHUNK = 256
"""Examples tokenized at one time, if they have at most MOST_CHARACTERS together: it takes 200 bytes per character."""
MOST_CHARACTERS = 1 << 20
STALE = 3600.0
"""Age in seconds of a draft that a killed process must have left."""
Ints = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(slots=True)
class TokenizedData:
    """Tokenized examples: example i has tokens `ids[offsets[i]:offsets[i+1]]`; `learn` marks the learned ones.

    A pair has both sides, one after the other; the second begins at token `seconds[i]`. For other examples that is the
    end.
    """

    key: str
    source: Source
    arrays: dict[str, Any]
    fresh: bool = False
    """Whether it was tokenized now, not found in the cache."""

    def __len__(self) -> int:
        return len(self.arrays["offsets"]) - 1

    @property
    def lengths(self) -> Ints:
        """The number of tokens of each example; of a pair that of its longer side."""
        whole: Ints = np.diff(self.arrays["offsets"])
        seconds: Ints = self.arrays["seconds"]
        longer: Ints = np.maximum(seconds, whole - seconds)
        return longer

    @property
    def splits(self) -> bool:
        """Whether some record has several rows, one for each answer."""
        return bool((np.asarray(self.arrays["flags"]) & CONTINUES).any())

    @property
    def records(self) -> Ints:
        """The number of the record, from 0, of each example. Several examples share one if each answer has a row."""
        continues = (np.asarray(self.arrays["flags"]) & CONTINUES) > 0
        found: Ints = np.cumsum(~continues, dtype=np.int64) - 1
        return found

    @property
    def percentile_99(self) -> int:
        """The length that 99 of 100 examples do not exceed."""
        return int(np.ceil(np.percentile(self.lengths, 99))) if len(self) else 0

    @property
    def compares(self) -> bool:
        """Whether the examples are pairs or judged answers."""
        return any(format in FORMATS for format in self.source.formats)

    def sides(self, i: int) -> list[tuple[int, int]]:
        """Returns first token and last (excluded) of each side of example i: two of a pair, else one."""
        whole = int(self.arrays["offsets"][i + 1] - self.arrays["offsets"][i])
        second = int(self.arrays["seconds"][i])
        return [(0, second)] if second == whole else [(0, second), (second, whole)]

    def tokens(self, i: int, begin: int, end: int) -> tuple[Ints, np.ndarray[Any, np.dtype[np.bool_]]]:
        """Returns tokens `begin` to `end` (excluded) of example i: `ids` int64 [T] and `learn` bool [T]."""
        start = int(self.arrays["offsets"][i])
        piece = slice(start + begin, start + end)
        return self.arrays["ids"][piece].astype(np.int64), self.arrays["learn"][piece].astype(bool)

    def labels(self, i: int, begin: int, end: int) -> int:
        """Counts the predicted tokens of `begin` to `end` (excluded) of example i: the learned ones but the first."""
        start = int(self.arrays["offsets"][i])
        return int(np.count_nonzero(self.arrays["learn"][start + begin + 1 : start + end]))

    def flagged(self, i: int, flag: int) -> bool:
        """Returns whether example i has `flag`."""
        return bool(self.arrays["flags"][i] & flag)

    def file(self, i: int) -> int:
        """Returns the number of the file of example i."""
        return int(self.arrays["files"][i])

    def place(self, i: int) -> Place:
        """Returns the place of example i."""
        return Place(str(self.source.files[self.file(i)]), int(self.arrays["lines"][i]))


def tokenize_source(
    source: Source, tokenizer: PreTrainedTokenizerBase, template: Template, config: Data, cache_dir: Path,
    most: int | None = None
) -> TokenizedData:
    """Returns the tokenized dataset, from the cache if nothing that affects it has changed.

    Raises DataError with the place of an example that cannot be tokenized, RequestError if the cache cannot be written.
    The key does not depend on `data.max_length`: whole examples are stored and cut later. Only an example that is
    certain to be dropped is not tokenized, because it is far longer than `most`, the largest possible
    `data.max_length`.
    """
    # Long examples are only known to be dropped if too_long=drop, and only worth a test if there are some.
    drops = (
        config.too_long == TooLong.drop and not source.reads.running_text and check_source(source).seal.longest >= LONG
    )
    key = compute_key(source, tokenizer, config, most := most if drops else None)
    folder = cache_dir / "data" / key
    arrays, fresh = _read(folder), False
    # A process of another machine may write the same folder at the same time: read it again.
    for _ in range(3):
        if arrays is not None:
            return TokenizedData(key, source, arrays, fresh)
        with wait_for_others(cache_dir, key):
            if fresh := _read(folder) is None:
                _build(source, tokenizer, template, config, folder, most)
            arrays = _read(folder)
    if arrays is None:
        raise RequestError(
            "{folder} cannot be read back after writing; check the disk, or set FULGURITE_CACHE to another folder.",
            folder=folder,
        )
    return TokenizedData(key, source, arrays, fresh)


def compute_key(source: Source, tokenizer: PreTrainedTokenizerBase, config: Data, most: int | None = None) -> str:
    """Returns a hash of the records, the tokenizer, the template, the settings that affect tokens, and our version.

    The records are hashed as the check read them, not as bytes of the files; the tokenized records are compared with
    that hash.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    words = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    settings = [
        LAYOUT, __version__, source.stage, [str(f) for f in source.formats], source.columns, str(config.mask),
        tokenizer.chat_template, tokenizer.eos_token, tokenizer.bos_token, config.arguments(),
        str(config.special_tokens), check_source(source).seal.hex(), most,
    ]
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode() + words.encode()).hexdigest()[:32]


def check_source(source: Source) -> Checked:
    """Returns the result of the check; checks now if that was not done yet."""
    return source.checked or source.check()


def _build(
    source: Source, tokenizer: PreTrainedTokenizerBase, template: Template, config: Data, folder: Path, most: int | None
) -> None:
    """Writes the arrays to a draft folder, then renames it, so that other processes find all of them or none."""
    remove_drafts(folder.parent, older_than=STALE)
    try:
        with write_folder(folder, keep=lambda: _read(folder) is not None) as draft:
            _write(source, tokenizer, template, config, draft, most)
            write_manifest(draft)
    except OSError as error:
        raise RequestError(
            "{folder} cannot be written ({reason}); set FULGURITE_CACHE to a folder with free space.",
            folder=folder, reason=translate_system_error(error),
        ) from error


def _write(
    source: Source, tokenizer: PreTrainedTokenizerBase, template: Template, config: Data, folder: Path, most: int | None
) -> None:
    offsets, files, lines, flags, seconds, margins = (
        array("q", [0]), array("i"), array("q"), array("H"), array("q"), array("d"),
    )
    seal = Fingerprint()
    with (folder / "ids.bin").open("wb") as ids_out, (folder / "learn.bin").open("wb") as learn_out:
        # Source.check counted and allowed the bad records; a new one changes the hash.
        good = (e for e in seal.through(source.examples()) if isinstance(e, Example))
        for chunk in _group_examples(good):
            short = [example for example in chunk if most is None or not _is_too_long(example, template, most)]
            made = tokenize_examples(short, tokenizer, template, config, source.reads.prompts) if short else iter(())
            if len(short) < len(chunk):
                made = _restore_order(chunk, list(made), most)
            for example, learned, flag, second in made:
                array("i", learned.ids).tofile(ids_out)
                learn_out.write(bytes(learned.learn))
                offsets.append(offsets[-1] + len(learned.ids))
                files.append(example.file)
                lines.append(example.place.line)
                flags.append(flag | GOOD * bool(example.good))
                seconds.append(len(learned.ids) if second is None else second)
                margins.append(example.margin)
    check_source(source).seal.refuse_other(seal)
    kept: dict[str, array[Any]] = {"offsets": offsets, "files": files, "lines": lines}
    kept |= {"flags": flags, "seconds": seconds, "margins": margins}
    for name, values in kept.items():
        with (folder / f"{name}.bin").open("wb") as out:
            values.tofile(out)


Made = tuple[Example, Learned, int, int | None]
"""An example, the tokens of one row of it, its flags, and the position of the second side of a pair."""


def _group_examples(examples: Iterator[Example]) -> Iterator[list[Example]]:
    """Yields groups of examples that are tokenized together; a long one is a group of its own."""
    chunk: list[Example] = []
    size = 0
    for example in examples:
        chunk.append(example)
        size += len(example.text or "") + sum(
            len(message.content) for message in (*(example.messages or ()), *(example.rejected or ()))
        )
        if len(chunk) == CHUNK or size >= MOST_CHARACTERS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _is_too_long(example: Example, template: Template, most: int) -> bool:
    """Returns whether the beginning of a long message alone has far more than `most` tokens."""
    content, enough = find_longest_content(example), CHARACTERS_A_TOKEN * most + LONG // 16
    if len(content) < max(LONG, enough):
        return False
    beginning = content[:enough]
    with _name_place(example, "messages"):
        return len(encode_texts(template.tokenizer, [beginning], False)[0]) > 2 * most + 64


def _restore_order(chunk: list[Example], made: list[Made], most: int | None) -> Iterator[Made]:
    """Yields the results in the order of the examples; an example that is too long has its place without tokens."""
    waiting = iter(made)
    ahead = next(waiting, None)
    for example in chunk:
        if ahead is None or ahead[0] is not example:
            yield example, Learned([], []), TOO_LONG, 2 * (most or 0) + 64
        while ahead is not None and ahead[0] is example:
            yield ahead
            ahead = next(waiting, None)


def tokenize_examples(
    chunk: list[Example], tokenizer: PreTrainedTokenizerBase, template: Template, config: Data, asks: bool
) -> Iterator[Made]:
    """Yields the rows of each example. All tokens of a prompt are marked, because none of them is learned.

    Raises DataError with the place.
    """
    if chunk[0].text is not None:
        yield from _tokenize_documents(chunk, tokenizer, config.special_tokens == SpecialTokens.keep)
    elif asks:
        for example in chunk:
            with _name_place(example, "prompt"):
                ids = template.encode_prompt(example.messages or ())
                flags = template.dialect.flags(example.messages or ())
                flags |= SPECIAL_INSIDE * template.special.inside_any(example.messages or ())
            yield example, Learned(ids, [True] * len(ids)), flags, None
    else:
        yield from _tokenize_conversations(chunk, template, config)


def _tokenize_documents(chunk: list[Example], tokenizer: PreTrainedTokenizerBase, keep: bool) -> Iterator[Made]:
    """Tokenizes running text, with the end token after each document. The text of a special token is encoded as that
    token if `keep` is true."""
    end = tokenizer.eos_token_id
    if end is None:
        raise DataError(
            "The tokenizer has no end token, which is put after each document; set eos_token in its "
            "tokenizer_config.json."
        )
    special = SpecialTexts(tokenizer)
    for example, ids in zip(
        chunk, _tokenize_one_by_one(chunk, lambda part: encode_texts(tokenizer, part, True), "text"), strict=True
    ):
        text = (example.text or "").removesuffix(str(tokenizer.eos_token))
        flag = SPECIAL_INSIDE * special.inside(text)
        if flag and not keep:
            ids = special.encode_document(text)
        whole = ids if ids[-1:] == [end] else [*ids, end]
        yield example, Learned(whole, [True] * len(whole)), flag, None


def _tokenize_conversations(chunk: list[Example], template: Template, config: Data) -> Iterator[Made]:
    plans: list[list[list[RowPlan]]] = []
    for example in chunk:
        # In a comparison only the last answer is learned.
        mask = Mask.last if example.rejected is not None or example.good is not None else config.mask
        with _name_place(example, "messages"):
            plans.append([template.plans(messages, mask) for messages in _list_sides(example)])
    tokens = iter(_tokenize_texts(chunk, plans, template))
    for example, both in zip(chunk, plans, strict=True):
        stops = any(template.holds_stop(messages) for messages in _list_sides(example))
        flag = STOP_INSIDE * stops
        for messages in _list_sides(example):
            flag |= template.dialect.flags(messages) | SPECIAL_INSIDE * template.special.inside_any(messages)
        sides = [[template.join(plan, list(islice(tokens, len(plan.texts)))) for plan in side] for side in both]
        if len(sides) > 1:
            (first,), (second,) = sides
            flag |= both[0][0].flags | both[1][0].flags
            yield example, Learned([*first.ids, *second.ids], [*first.learn, *second.learn]), flag, len(first.ids)
            continue
        for number, (plan, row) in enumerate(zip(both[0], sides[0], strict=True)):
            yield example, row, flag | plan.flags | MISSED * bool(row.missed) | CONTINUES * (number > 0), None


def _tokenize_texts(chunk: list[Example], plans: list[list[list[RowPlan]]], template: Template) -> list[list[int]]:
    """Tokenizes all texts at one time, which is faster; one example at a time if one is refused, to report its
    place."""
    texts = [[text for side in both for plan in side for text in plan.texts] for both in plans]
    try:
        return template.tokenise([text for own in texts for text in own])
    except DataError:
        found: list[list[int]] = []
        for example, own in zip(chunk, texts, strict=True):
            with _name_place(example, "messages"):
                found += template.tokenise(own)
        return found


def _tokenize_one_by_one(
    chunk: list[Example], encoded: Callable[[list[str]], list[list[int]]], field: str
) -> list[list[int]]:
    try:
        return encoded([example.text or "" for example in chunk])
    except DataError:
        found = []
        for example in chunk:
            with _name_place(example, field):
                found += encoded([example.text or ""])
        return found


@contextmanager
def _name_place(example: Example, field: str) -> Iterator[None]:
    """Adds the place to the error of an example."""
    try:
        yield
    except DataError as error:
        place, reason = example.place, error.message
        raise DataError("{place}: field '{field}': {reason}", place=place, field=field, reason=reason) from error


def _list_sides(example: Example) -> list[Conversation]:
    """Returns the conversation, and of a pair also the one with the worse answer."""
    return [example.messages or Conversation(())] + ([example.rejected] if example.rejected is not None else [])


def _read(folder: Path) -> dict[str, Any] | None:
    """Maps the arrays of a folder into memory; returns None if it is absent or damaged."""
    if find_damage(folder, required=[f"{name}.bin" for name in ARRAYS]):
        return None
    try:
        return {name: _map_array(folder / f"{name}.bin", kind) for name, kind in ARRAYS.items()}
    except (OSError, ValueError):
        return None


def _map_array(path: Path, kind: Any) -> Any:
    return np.memmap(path, dtype=kind, mode="r") if path.stat().st_size else np.zeros(0, dtype=kind)
