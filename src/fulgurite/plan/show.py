"""`fulgurite plan --show`: training examples as text, with what is learned marked.

On a terminal what is learned is green and special tokens are dim; elsewhere what is learned is in [[double brackets]].
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fulgurite.data.preference_dataset import PreferenceDataset
from fulgurite.data.tokenized import CONTINUES, GOOD, TokenizedData
from fulgurite.errors import RequestError
from fulgurite.language.message import UserMessage, message
from fulgurite.text.console import escape

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from fulgurite.data.dataset import AnyRows
    from fulgurite.plan.prepare import Gathered

LEARNED, SPECIAL, PLAIN = "\x1b[32m", "\x1b[2m", "\x1b[0m"
PLAIN_BEFORE = "\\"
MOST = 64
"""The most examples that are shown."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One side of a row: what it is, and its tokens with whether each is learned."""

    place: str
    what: str
    ids: list[int]
    learned: list[bool]


def find_shown(gathered: Gathered, word: str) -> list[Shown]:
    """The examples that `word` asks for, as they are trained on. Raises RequestError if the place holds none."""
    encoded, rows = gathered.encoded, gathered.rows
    parts = list(_walk_parts(rows, "training"))
    if word == "longest":
        longest = max(parts, key=lambda part: max(end - begin for begin, end in part[2]))
        return _collect_sides(encoded, *longest)
    if word.isdecimal():
        found = [_collect_sides(encoded, *part) for part in parts[: min(int(word), MOST)]]
        return [side for sides in found for side in sides]
    parts += list(_walk_parts(gathered.val, "validation")) if gathered.val is not None else []
    name, line = word.rsplit(":", 1)
    here = [part for part in parts if _is_place(encoded, part[0], name, int(line))]
    if here:
        return [side for part in here for side in _collect_sides(encoded, *part)]
    raise RequestError(_explain_missing(gathered, name, int(line)))


def count_more(gathered: Gathered, word: str) -> str:
    """What to know of the training examples that `word` asks for and that are not shown, or nothing."""
    if not word.isdecimal() or int(word) <= MOST:
        return ""
    there = sum(1 for _ in _walk_parts(gathered.rows, "training"))
    return f"These are the first {MOST} of {there:,} examples; --show FILE:LINE shows another." if there > MOST else ""


def _walk_parts(rows: AnyRows, split: str) -> Iterator[tuple[int, str, list[tuple[int, int]]]]:
    """Each example of the rows, once, with where it is used and the first and last token of its sides or of its
    pieces."""
    if isinstance(rows, PreferenceDataset):
        for number, cut in zip(rows.numbers.tolist(), rows.cuts.tolist(), strict=True):
            yield number, split, [(begin + cut, end) for begin, end in rows.encoded.sides(number)]
        return
    known: set[tuple[int, int]] = set()  # data.weights may have an example in several rows
    for number, begin, end in sorted(map(tuple, rows.pieces.tolist())):
        if (number, begin) not in known:
            known.add((number, begin))
            yield number, split, [(begin, end)]


def _collect_sides(encoded: TokenizedData, number: int, split: str, spans: list[tuple[int, int]]) -> list[Shown]:
    shown = []
    for n, (begin, end) in enumerate(spans):
        ids, learned = encoded.tokens(number, begin, end)
        on = learned.tolist() if not encoded.source.reads.prompts else [False] * len(ids)
        on[:1] = [False] * len(on[:1])  # nothing precedes the first token, from which it could be predicted
        shown.append(
            Shown(str(encoded.place(number)), _describe(encoded, number, split, n, begin, end), ids.tolist(), on)
        )
    return shown


def _describe(encoded: TokenizedData, number: int, split: str, side: int, begin: int, end: int) -> str:
    """What a person must know of an example besides its text."""
    words = [split]
    if len(encoded.sides(number)) > 1:
        words.append(("chosen", "rejected")[side])
    elif encoded.compares:
        words.append("judged good" if encoded.flagged(number, GOOD) else "judged bad")
    if margin := float(encoded.arrays["margins"][number]):
        words.append(f"margin {margin:g}")
    if encoded.splits and _count_rows(encoded, number) > 1:
        words.append("one row of a conversation with a row for each answer")
    whole = int(encoded.arrays["offsets"][number + 1] - encoded.arrays["offsets"][number])
    if len(encoded.sides(number)) == 1 and (begin, end) != (0, whole):
        words.append(f"tokens {begin + 1:,} to {end:,} of {whole:,}")
    if weights := encoded.source.weights:
        file = encoded.file(number)
        words += [f"weight {weights[file]:g}"] if file < len(weights) else []
    return ", ".join(words)


def _count_rows(encoded: TokenizedData, number: int) -> int:
    flags = np.asarray(encoded.arrays["flags"])
    first = number
    while flags[first] & CONTINUES:
        first -= 1
    count = 1
    while first + count < len(flags) and flags[first + count] & CONTINUES:
        count += 1
    return count


def _is_place(encoded: TokenizedData, number: int, name: str, line: int) -> bool:
    place = encoded.place(number)
    return place.line == line and (
        place.file == name or Path(place.file).name == name or Path(place.file) == Path(name).absolute()
    )


def _explain_missing(gathered: Gathered, name: str, line: int) -> UserMessage:
    """Returns what became of a record that no example contains."""
    for reason, dropped in gathered.report.dropped.items():
        for place in dropped.places:
            file, _, at = place.rpartition(":")
            if int(at) == line and (file == name or Path(file).name == name):
                return message(
                    "--show {name}:{line}: the record was dropped ({reason}).", name=name, line=line, reason=reason
                )
    files = ", ".join(dict.fromkeys(str(path) for path in gathered.encoded.source.files[:5]))
    return message(
        "--show {name}:{line}: no example begins there, or it was not drawn (data.max_samples, data.weights). The "
        "files are {files}.", name=name, line=line, files=files,
    )


def format_text(shown: list[Shown], tokenizer: PreTrainedTokenizerBase, color: bool) -> str:
    """The examples as a person reads them."""
    text = "\n\n".join(_format_one(number, side, tokenizer, color) for number, side in enumerate(shown, 1))
    if any(plain for side in shown for _, _, plain in _walk_stretches(side, tokenizer)):
        note = message(
            "{mark} marks the text of a special token that is encoded as plain text (data.special_tokens).",
            mark=PLAIN_BEFORE,
        )
        text += f"\n{note}"
    return text


def build_list(shown: list[Shown], tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
    """The examples for programs: stretches of text that are learned and that are not."""
    return [
        {"place": side.place, "what": side.what, "tokens": len(side.ids), "learned": sum(side.learned),
         "text": [{"text": text, "learned": on} | ({"special_as_plain_text_at": plain} if plain else {})
                  for text, on, plain in _walk_stretches(side, tokenizer)]}
        for side in shown
    ]


def _format_one(number: int, side: Shown, tokenizer: PreTrainedTokenizerBase, color: bool) -> str:
    head = message(
        "{number}. {place}: {what}; {tokens:,} tokens, {learned:,} learned",
        number=number, place=escape(side.place), what=side.what, tokens=len(side.ids), learned=sum(side.learned),
    )
    return "\n".join(
        [str(head), "".join(_mark_text(*stretch, tokenizer, color) for stretch in _walk_stretches(side, tokenizer))]
    )


def _mark_text(text: str, on: bool, plain: list[int], tokenizer: PreTrainedTokenizerBase, color: bool) -> str:
    for at in reversed(plain):
        text = f"{text[:at]}{PLAIN_BEFORE}{text[at:]}"
    text = escape(text.replace("\r\n", "\\r\n"))
    if not color:
        return f"[[{text}]]" if on else text
    back = PLAIN + (LEARNED if on else "")
    if pattern := _build_special_pattern(tokenizer):
        text = re.sub(rf"(?<!{re.escape(PLAIN_BEFORE)})(?:{pattern})", lambda found: f"{SPECIAL}{found[0]}{back}", text)
    return f"{LEARNED if on else ''}{text}{PLAIN}"


def _build_special_pattern(tokenizer: PreTrainedTokenizerBase) -> str:
    """A pattern for the special tokens as they are written, the longest first."""
    return "|".join(map(re.escape, sorted(filter(str.strip, tokenizer.all_special_tokens), key=len, reverse=True)))


def _find_plain(text: str, ids: list[int], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Finds the text of a special token in `text` that is not that token among `ids`."""
    pattern, special = _build_special_pattern(tokenizer), set(tokenizer.all_special_ids)
    found = list(re.finditer(pattern, text)) if pattern else []
    tokens = [n for n, token in enumerate(ids) if token in special]
    if len(found) <= len(tokens):
        return []
    ends = {len(_decode(ids[: n + 1], tokenizer)) for n in tokens}
    return [match.start() for match in found if match.end() not in ends]


def _decode(ids: list[int], tokenizer: PreTrainedTokenizerBase) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def _walk_stretches(side: Shown, tokenizer: PreTrainedTokenizerBase) -> Iterator[tuple[str, bool, list[int]]]:
    """Tokens of one kind that follow each other, as text. Special tokens are written out; with the places of those
    that are plain text."""
    begin = 0
    for i in range(1, len(side.ids) + 1):
        if i == len(side.ids) or side.learned[i] != side.learned[begin]:
            text = _decode(side.ids[begin:i], tokenizer)
            yield text, side.learned[begin], _find_plain(text, side.ids[begin:i], tokenizer)
            begin = i
