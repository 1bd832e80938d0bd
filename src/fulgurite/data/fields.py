"""Fields of a record and of its turns: read as text, numbers, booleans and plain JSON, with a note of what was read.

Every reader raises `Wrong` with the field and the reason.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from fulgurite.data.json_stream import Decoder
from fulgurite.files.json import MOST_DEPTH

DIGITS = 4000
"""How many digits a number may have that is read as text: Python writes no integer of more than 4,300."""
LONG = 60
"""How many characters of a value an error line shows."""
TRUE, FALSE = frozenset({"true", "1", "yes", "1.0"}), frozenset({"false", "0", "no", "0.0"})
MISSING = object()
NUMBER_AS_TEXT = "a number or a boolean read as text"
KINDS = {
    dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number",
    type(None): "null", Decimal: "a decimal number", bytes: "bytes",
}


class Wrong(Exception):
    """A record cannot be used: the field and the reason."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"field '{field}': {reason}")
        self.field, self.reason = field, reason


@dataclass(slots=True)
class Reading:
    """How a record is to be read, and what was noticed while it was read."""

    roles: Mapping[str, str] = field(default_factory=dict)
    """Names of roles, as the user gives them, to the roles that they stand for."""
    turn_keys: Mapping[str, str] = field(default_factory=dict)
    """Our names of the keys of a turn, role and content, to those of the file."""
    columnar: bool = False
    """Whether the file is Parquet or Arrow, which adds a null for each key that another record has."""
    asks: bool = False
    """Whether the stage answers itself, so that a conversation may end with its question."""
    unread: set[str] = field(default_factory=set)
    """Keys from which nothing is made; `messages[].images` is one inside a turn."""
    remarks: set[str] = field(default_factory=set)
    """What was read otherwise than it is written, such as two turns joined into one."""


class Fields(dict[str, Any]):
    """An object of a record that remembers which of its keys were read."""

    def __init__(self, values: Mapping[str, Any], reading: Reading, place: str = "") -> None:
        super().__init__(values)
        self.reading, self.place = reading, place
        self.seen: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.seen.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """The value under a key, which then counts as read."""
        self.seen.add(name)
        return super().get(name, default)

    def has(self, name: str) -> bool:
        """Whether a key has a value that is not null; does not count as reading it."""
        return super().get(name) is not None

    def first(self, *names: str) -> str | None:
        """The first of the names under which something stands, or else of those that are null, or None."""
        return next((n for n in names if self.has(n)), None) or next((n for n in names if n in self), None)

    def at(self, name: str) -> str:
        """The place of a field, for an error."""
        return f"{self.place}.{name}" if self.place else name

    def unread(self) -> list[str]:
        """The keys that hold something and were not read."""
        return [str(name) for name, value in self.items() if name not in self.seen and not is_nothing(value)]

    def note_unread(self) -> None:
        """Adds the unread keys to the reading, each once whatever the number of its turn."""
        where = re.sub(r"\[\d+\]", "[]", self.place)
        self.reading.unread.update(f"{where}.{name}" for name in self.unread())


def rename_keys(record: Any, columns: Mapping[str, str]) -> Any:
    """The record under our field names, as far as it has them."""
    if not columns or not isinstance(record, Mapping):
        return record
    hidden = {*columns, *(find_root(record, theirs) for theirs in columns.values())}
    kept = {name: value for name, value in record.items() if name not in hidden}
    return kept | {ours: find_column(record, theirs) for ours, theirs in columns.items() if has_column(record, theirs)}


def find_root(record: Mapping[str, Any], column: str) -> str:
    """The column of the file that holds one named as `column` or `column.key.key`; a name that has dots itself goes
    first.
    """
    return column if column in record else column.partition(".")[0]


def has_column(record: Mapping[str, Any], column: str) -> bool:
    """Whether a record has a column, or the key inside a column that `column.key` names."""
    return column in record or ("." in column and _follow_path(record, column.split(".")) is not MISSING)


def find_column(record: Mapping[str, Any], column: str) -> Any:
    """The value of a column of which `has_column` is true."""
    return record[column] if column in record else _follow_path(record, column.split("."))


def _follow_path(value: Any, path: list[str]) -> Any:
    """What a path of keys, and of numbers in lists, leads to; else MISSING."""
    for key in path:
        if isinstance(value, Mapping) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.isdecimal() and len(key) < 10 and int(key) < len(value):
            value = value[int(key)]
        else:
            return MISSING
    return value


def list_unread_paths(value: Any, path: str, read: Iterable[str]) -> list[str]:
    """The paths inside a column from which nothing is read, if those in `read` are; the other items of a list are named
    together.
    """
    inside = [other for other in read if other.startswith(f"{path}.")]
    if path in read or is_nothing(value):
        return []
    if not inside:
        return [path]
    if isinstance(value, list):
        left = [list_unread_paths(item, f"{path}.{n}", read) for n, item in enumerate(value)]
        others = [f"{path} (other items)"] if any(rest == [f"{path}.{n}"] for n, rest in enumerate(left)) else []
        return others + [name for n, rest in enumerate(left) if rest != [f"{path}.{n}"] for name in rest]
    return [name for key, item in value.items() for name in list_unread_paths(item, f"{path}.{key}", read)]


def describe_kind(value: Any) -> str:
    """The kind of a value in a few words."""
    name = type(value).__name__
    return KINDS.get(type(value), f"a {name}")


def show_value(value: Any) -> str:
    """A value as an error line shows it: as Python writes it, at most 60 characters."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of more digits than Python writes, or lists in lists
        return describe_kind(value)
    return text if len(text) <= LONG else f"{text[:LONG]}…"


def is_nothing(value: Any) -> bool:
    """Whether a value is null, an empty list, or an object of nulls, which HF datasets makes of a null in a column of
    objects.
    """
    return value is None or value == [] or (isinstance(value, Mapping) and all(map(is_nothing, value.values())))


def is_blank(value: Any) -> bool:
    """Whether a value is null or text without a visible character."""
    return value is None or (isinstance(value, str) and not value.strip())


def read_text(fields: Fields, name: str, empty: bool = False) -> str:
    """The text of a field; numbers and booleans become text.

    Raises Wrong if it is missing, damaged or (unless `empty`) empty.
    """
    if name not in fields:
        raise Wrong(fields.at(name), "is missing")
    return to_text(fields[name], fields.at(name), fields.reading, empty)


def to_text(value: Any, place: str, reading: Reading, empty: bool = False) -> str:
    """A value as text. Raises Wrong."""
    if value is None and empty:
        return ""
    if isinstance(value, bool | int | float | Decimal):
        value = _format_number(value, place)
        reading.remarks.add(NUMBER_AS_TEXT)
    if not isinstance(value, str):
        raise Wrong(place, f"text is due and this is {describe_kind(value)}")
    if not empty and not value.strip():
        raise Wrong(place, "is empty")
    refuse_damage(value, place)
    return value


def _format_number(value: bool | int | float | Decimal, place: str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if (isinstance(value, float) and not math.isfinite(value)) or (
        isinstance(value, Decimal) and not value.is_finite()
    ):
        raise Wrong(place, f"text is due and this is {value}, which stands for no number")
    if (isinstance(value, Decimal) and abs(value.adjusted()) > DIGITS) or (
        isinstance(value, int) and abs(value) >= 10**DIGITS
    ):
        raise Wrong(place, f"text is due and this is a number of more than {DIGITS:,} digits")
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def refuse_damage(text: str, place: str) -> None:
    """Raises Wrong if a text holds a NUL, bytes that are not UTF-8 or half of a surrogate pair."""
    if "\0" in text:
        raise Wrong(place, "holds a NUL character")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        code, column = ord(text[error.start]), error.start + 1
        if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8 comes out of the reader so
            reason = f"byte 0x{code - 0xDC00:02X} at character {column} is not UTF-8; save the file as UTF-8"
            raise Wrong(place, reason) from None
        raise Wrong(place, f"holds half of a surrogate pair (\\u{code:04x}) at character {column}") from None


def to_bool(value: Any) -> bool | None:
    """True or false of a boolean, 0 or 1, or what a CSV file writes for them; None for anything else."""
    if isinstance(value, str):
        word = value.strip().lower()
        return True if word in TRUE else False if word in FALSE else None
    if isinstance(value, bool | int | float | Decimal) and value in (0, 1):
        return bool(value)
    return None


def read_list(fields: Fields, name: str) -> list[Any]:
    """The list of a field, which may be written as JSON text. Raises Wrong."""
    value, place = fields.get(name), fields.at(name)
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = parse_json(value, place)
    if not isinstance(value, list):
        raise Wrong(place, f"a list is due and this is {describe_kind(value)}")
    return value


def parse_json(text: str, place: str) -> Any:
    """The value of a JSON text. Raises Wrong."""
    decoder, text = Decoder(), text.strip()
    try:
        value, end = decoder.decode(text, 0)
    except (ValueError, RecursionError) as error:
        raise Wrong(place, f"is no JSON ({' '.join(str(error).split())[:LONG]})") from None
    if end < len(text):
        raise Wrong(place, f"is no JSON (more follows at column {end + 1})")
    if decoder.twin is not None:
        raise Wrong(place, f"has the key {show_value(decoder.twin)} twice")
    return value


def copy_json(value: Any, place: str, drop_nulls: bool, depth: int = 0) -> Any:
    """A copy of a value of JSON's kinds; `drop_nulls` leaves out keys without a value. Raises Wrong for other kinds."""
    if depth > MOST_DEPTH:
        raise Wrong(place, f"is nested more than {MOST_DEPTH} deep")
    if isinstance(value, str):
        refuse_damage(value, place)
        return value
    if isinstance(value, int) and abs(value) >= 10**DIGITS:
        raise Wrong(place, f"holds a number of more than {DIGITS:,} digits")
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, float):
        raise Wrong(place, f"holds {value}, which JSON does not have")
    if isinstance(value, list) and value and all(isinstance(item, tuple) and len(item) == 2 for item in value):
        value = dict(value)  # a map of Arrow comes as pairs
    if isinstance(value, Mapping):
        made = {}
        for name, item in value.items():
            if item is None and drop_nulls:
                continue
            made[copy_json(name, place, drop_nulls, depth)] = copy_json(item, place, drop_nulls, depth + 1)
        return made
    if isinstance(value, list):
        return [copy_json(item, place, drop_nulls, depth + 1) for item in value]
    raise Wrong(place, f"holds {describe_kind(value)}, which JSON does not have; write it as text")
