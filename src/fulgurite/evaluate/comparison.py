"""Two models answer the same questions: a table that a person judges blind, its key, and the judged table read back."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fulgurite.errors import RequestError
from fulgurite.evaluate.questions import HeldOutQuestion
from fulgurite.files.atomic import write_output
from fulgurite.files.json import read_object
from fulgurite.language.library_errors import translate_error, translate_system_error

COLUMNS = ("number", "question", "left", "right", "better")
LEFT, RIGHT, TIE = "left", "right", "tie"
WORDS = {
    LEFT: LEFT, "l": LEFT, "左": LEFT, RIGHT: RIGHT, "r": RIGHT, "右": RIGHT,
    TIE: TIE, "=": TIE, "平": TIE, "平局": TIE,
}
"""What a judge may write in the column `better`."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Beginnings of a cell that a spreadsheet would compute."""
MOST_CELL = 1 << 20
"""Characters of a cell: an answer may be long."""


@dataclass(frozen=True, slots=True)
class Judgements:
    """The outcomes of a judged table for the first model (1 won, 0.5 tie, 0 lost), the names of both, and the number of
    rows that nobody judged."""

    outcomes: list[float]
    first: str
    second: str
    unjudged: int


def name_key(path: Path) -> Path:
    """Returns the path of the key of a table."""
    return path.with_name(f"{path.stem}.key.json")


def write_comparison(
    path: Path, questions: Sequence[HeldOutQuestion], first: tuple[str, Sequence[str]],
    second: tuple[str, Sequence[str]], seed: int,
) -> None:
    """Writes the table and its key. `first` and `second` are the name of a model and its answers.

    The sides are shuffled by the seed. Equal answers are a tie already. Raises RequestError if a file cannot be
    written.
    """
    draw = random.Random(seed)
    # True if the first model's answer is on the left.
    sides = [draw.random() < 0.5 for _ in questions]
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(COLUMNS)
    for number, (question, one, other) in enumerate(zip(questions, first[1], second[1], strict=True)):
        left, right = (one, other) if sides[number] else (other, one)
        better = TIE if one == other else ""
        table.writerow([number + 1, *map(_protect, (_format_question(question), left, right)), better])
    key = {"first": first[0], "second": second[0], "first_is_left": sides, "seed": seed}
    write_output(path, "\ufeff" + out.getvalue())  # the mark by which spreadsheets know UTF-8
    write_output(name_key(path), json.dumps(key, indent=1, ensure_ascii=False) + "\n")


def read_judgements(path: Path) -> Judgements:
    """Reads a judged table with its key. Raises RequestError if one of them is damaged, or nothing was judged."""
    sides, key = _read_key(path)
    outcomes, unjudged, seen = [], 0, set()
    for line, row in enumerate(_read_rows(path), start=2):
        number = str(row.get("number") or "").strip()
        if not number.isdecimal() or not 1 <= int(number) <= len(sides) or number in seen:
            raise RequestError(
                "{path}:{line}: number is {number!r}; each row keeps its number, 1 to {count}.",
                path=path, line=line, number=number, count=len(sides),
            )
        seen.add(number)
        word = str(row.get("better") or "").strip().lower()
        if not word:
            unjudged += 1
            continue
        if word not in WORDS:
            raise RequestError(
                "{path}:{line}: better is {word!r}; write left, right or tie.", path=path, line=line, word=word
            )
        side = WORDS[word]
        # Both true or both false: the judge chose the side on which the first model's answer was.
        outcomes.append(0.5 if side == TIE else float((side == LEFT) == sides[int(number) - 1]))
    if not outcomes:
        raise RequestError("{path} has no judgements; write left, right or tie in its column `better`.", path=path)
    return Judgements(outcomes, str(key["first"]), str(key["second"]), unjudged + len(sides) - len(seen))


def compare_numbers(
    first: Sequence[dict[str, float]], second: Sequence[dict[str, float]], lower_wins: Collection[str] = ()
) -> dict[str, list[float]]:
    """Returns for each number that both models have on a question the outcomes for the first: the larger number wins,
    and of the names in `lower_wins` the smaller."""
    found: dict[str, list[float]] = {}
    for one, other in zip(first, second, strict=True):
        for name in one.keys() & other.keys():
            is_larger = one[name] > other[name]
            # `!=` of two bools is "exactly one": the larger number wins, unless the smaller is the better.
            outcome = 0.5 if one[name] == other[name] else float(is_larger != (name in lower_wins))
            found.setdefault(name, []).append(outcome)
    return dict(sorted(found.items()))


def _read_key(path: Path) -> tuple[list[bool], dict[str, Any]]:
    place = name_key(path)
    try:
        key = read_object(place)
        sides = key["first_is_left"]
        if not isinstance(sides, list) or not all(isinstance(side, bool) for side in sides):
            raise ValueError("first_is_left")
        return sides, {"first": key["first"], "second": key["second"]}
    except (OSError, ValueError, KeyError) as error:
        reason = translate_system_error(error) if isinstance(error, OSError) else translate_error(error)
        raise RequestError(
            "{key}, the key of {path}, cannot be read ({reason}); put the file that was written with the table beside "
            "it.",
            key=place, path=path, reason=reason,
        ) from error


def _read_rows(path: Path) -> list[dict[str, Any]]:
    before = csv.field_size_limit(MOST_CELL)
    try:
        text = path.read_text(encoding="utf-8-sig")
        # Spreadsheets of some countries write semicolons.
        separator = max(",;\t", key=text.partition("\n")[0].count)
        rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator)
        found = list(rows)
        names = [str(name).strip().lower() for name in rows.fieldnames or ()]
    except (OSError, ValueError, csv.Error) as error:
        reason = translate_system_error(error) if isinstance(error, OSError) else translate_error(error)
        raise RequestError("{path} cannot be read: {reason}.", path=path, reason=reason) from error
    finally:
        csv.field_size_limit(before)
    if not {"number", "better"} <= {*names}:
        raise RequestError(
            "{path} has the columns [{columns}]; a judged table has number and better.",
            path=path, columns=", ".join(names),
        )
    return [{str(key).strip().lower(): value for key, value in row.items()} for row in found]


def _format_question(question: HeldOutQuestion) -> str:
    if len(question.messages) == 1:
        return question.messages[0].content
    return "\n".join(f"{message.role}: {message.content}" for message in question.messages)


def _protect(text: str) -> str:
    """Marks a text that a spreadsheet would take for a formula with an apostrophe, which it does not show."""
    return f"'{text}" if text.startswith(FORMULA) else text
