"""Fields of a record and of its turns: read as text, numbers, booleans and plain JSON, with a note of the keys read.

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
from fulgurite.data.report import Reason
from fulgurite.files.json import MOST_DEPTH
from fulgurite.language.library_errors import translate_error
from fulgurite.language.message import UserMessage, message

DIGITS = 4000
"""Maximum digits of a number that is read as text: Python writes no integer of more than 4,300."""
LONG = 60
"""Maximum characters of a value in an error line."""
TRUE, FALSE = frozenset({"true", "1", "yes", "1.0"}), frozenset({"false", "0", "no", "0.0"})
MISSING = object()
NUMBER_AS_TEXT = Reason(message("a number or a boolean read as text"))
KINDS = {
    dict: message("an object"),
    list: message("a list"),
    str: message("text"),
    bool: message("true or false"),
    int: message("a number"),
    float: message("a number"),
    type(None): message("null"),
    Decimal: message("a decimal number"),
    bytes: message("bytes"),
}


class Wrong(Exception):
    """A record cannot be used: the field, and the reason as a template with its facts."""

    def __init__(self, field: str, reason: str | UserMessage, /, **facts: Any) -> None:
        self.field, self.reason = field, reason if isinstance(reason, UserMessage) else UserMessage(reason, facts)
        super().__init__(message("field '{field}': {reason}", field=field, reason=self.reason))


@dataclass(slots=True)
class Reading:
    """Settings for reading a record, and notes made while it was read."""

    roles: Mapping[str, str] = field(default_factory=dict)
    """The roles by the names that `data.roles` gives them."""
    turn_keys: Mapping[str, str] = field(default_factory=dict)
    """The file's names of the keys of a turn, by our names, role and content."""
    columnar: bool = False
    """Whether the file is Parquet or Arrow, which adds a null for each key that another record has."""
    asks: bool = False
    """Whether the stage generates the answers, so that a conversation may end with its question."""
    unread: set[str] = field(default_factory=set)
    """Keys that are not used; `messages[].images` is one inside a turn."""
    remarks: set[Reason] = field(default_factory=set)
    """Changes made while reading, such as two turns joined into one."""


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
        """Returns the value under a key, which then counts as read."""
        self.seen.add(name)
        return super().get(name, default)

    def has(self, name: str) -> bool:
        """Returns whether a key has a value that is not null; does not count as reading it."""
        return super().get(name) is not None

    def first(self, *names: str) -> str | None:
        """Returns the first of the names that has a value, or else the first that is null, or None."""
        return next((n for n in names if self.has(n)), None) or next((n for n in names if n in self), None)

    def at(self, name: str) -> str:
        """Returns the place of a field, for an error."""
        return f"{self.place}.{name}" if self.place else name

    def unread(self) -> list[str]:
        """Returns the keys that have a value and were not read."""
        return [str(name) for name, value in self.items() if name not in self.seen and not is_nothing(value)]

    def note_unread(self) -> None:
        """Adds the unread keys to the reading, each once for all turns."""
        parent = re.sub(r"\[\d+\]", "[]", self.place)
        self.reading.unread.update(f"{parent}.{name}" for name in self.unread())


def rename_keys(record: Any, columns: Mapping[str, str]) -> Any:
    """Returns the record with our field names in place of the file's; leaves out columns that it lacks."""
    if not columns or not isinstance(record, Mapping):
        return record
    # A column that is mapped, or whose new name is taken, is not visible under its old name.
    hidden = {*columns, *(find_root(record, theirs) for theirs in columns.values())}
    kept = {name: value for name, value in record.items() if name not in hidden}
    return kept | {ours: find_column(record, theirs) for ours, theirs in columns.items() if has_column(record, theirs)}


def find_root(record: Mapping[str, Any], column: str) -> str:
    """Returns the column of the file that contains `column` or `column.key.key`; a column whose own name has dots is
    tried first."""
    return column if column in record else column.partition(".")[0]


def has_column(record: Mapping[str, Any], column: str) -> bool:
    """Returns whether a record has a column, or the key inside a column that `column.key` names."""
    return column in record or ("." in column and _follow_path(record, column.split(".")) is not MISSING)


def find_column(record: Mapping[str, Any], column: str) -> Any:
    """Returns the value of a column for which `has_column` is true."""
    return record[column] if column in record else _follow_path(record, column.split("."))


def _follow_path(value: Any, path: list[str]) -> Any:
    """Returns the value at a path of keys, and of numbers in lists; MISSING if there is none."""
    for key in path:
        if isinstance(value, Mapping) and key in value:
            value = value[key]
        # The limit of the length: int() of a text with thousands of digits raises ValueError.
        elif isinstance(value, list) and key.isdecimal() and len(key) < 10 and int(key) < len(value):
            value = value[int(key)]
        else:
            return MISSING
    return value


def list_unread_paths(value: Any, path: str, read: Iterable[str]) -> list[str]:
    """Returns the paths inside a column that are not read, if those in `read` are. The other items of a list are one
    entry."""
    # Descend only into the parts from which another path is read.
    inside = [other for other in read if other.startswith(f"{path}.")]
    if path in read or is_nothing(value):
        return []
    if not inside:
        return [path]
    if isinstance(value, list):
        # An item of which nothing is read returns its own path alone; all such items become one entry.
        left = [list_unread_paths(item, f"{path}.{n}", read) for n, item in enumerate(value)]
        others = [f"{path} (other items)"] if any(rest == [f"{path}.{n}"] for n, rest in enumerate(left)) else []
        return others + [name for n, rest in enumerate(left) if rest != [f"{path}.{n}"] for name in rest]
    return [name for key, item in value.items() for name in list_unread_paths(item, f"{path}.{key}", read)]


def describe_kind(value: Any) -> UserMessage:
    """Returns the kind of a value in a few words."""
    return KINDS.get(type(value)) or message("a {type}", type=type(value).__name__)


def show_value(value: Any) -> str | UserMessage:
    """Returns a value for an error line: as Python writes it, at most 60 characters."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of more digits than Python writes, or lists in lists
        return describe_kind(value)
    return text if len(text) <= LONG else f"{text[:LONG]}…"


def is_nothing(value: Any) -> bool:
    """Returns whether a value is null, an empty list, or an object of nulls, which HF datasets makes of a null in a
    column of objects."""
    return value is None or value == [] or (isinstance(value, Mapping) and all(map(is_nothing, value.values())))


def is_blank(value: Any) -> bool:
    """Returns whether a value is null or text without a visible character."""
    return value is None or (isinstance(value, str) and not value.strip())


def read_text(fields: Fields, name: str, empty: bool = False) -> str:
    """Returns the text of a field; converts numbers and booleans to text.

    Raises Wrong if it is missing, damaged or (unless `empty`) empty.
    """
    if name not in fields:
        raise Wrong(fields.at(name), "is missing")
    return to_text(fields[name], fields.at(name), fields.reading, empty)


def to_text(value: Any, place: str, reading: Reading, empty: bool = False) -> str:
    """Converts a value to text. Raises Wrong."""
    if value is None and empty:
        return ""
    if isinstance(value, bool | int | float | Decimal):
        value = _format_number(value, place)
        reading.remarks.add(NUMBER_AS_TEXT)
    if not isinstance(value, str):
        raise Wrong(place, "expected text, found {kind}", kind=describe_kind(value))
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
        raise Wrong(place, "expected text, found {value}, which is not a number", value=value)
    # 1e999999 is short as a Decimal, but as text it has a million digits.
    if (isinstance(value, Decimal) and abs(value.adjusted()) > DIGITS) or (
        isinstance(value, int) and abs(value) >= 10**DIGITS
    ):
        raise Wrong(place, "expected text, found a number of more than {most:,} digits", most=DIGITS)
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def refuse_damage(text: str, place: str) -> None:
    """Raises Wrong if a text contains a NUL, bytes that are not UTF-8 or half of a surrogate pair."""
    if "\0" in text:
        raise Wrong(place, "contains a NUL character")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        code, column = ord(text[error.start]), error.start + 1
        # The reader turns a byte that is not UTF-8 into such a code.
        if 0xDC80 <= code <= 0xDCFF:
            raise Wrong(
                place, "byte 0x{byte:02X} at character {column} is not UTF-8; save the file as UTF-8",
                byte=code - 0xDC00, column=column,
            ) from None
        raise Wrong(
            place, "contains half of a surrogate pair (\\u{code:04x}) at character {column}", code=code, column=column
        ) from None


def to_bool(value: Any) -> bool | None:
    """Converts a boolean, 0 or 1, or the text that a CSV file has for them; returns None for anything else."""
    if isinstance(value, str):
        word = value.strip().lower()
        return True if word in TRUE else False if word in FALSE else None
    if isinstance(value, bool | int | float | Decimal) and value in (0, 1):
        return bool(value)
    return None


def read_list(fields: Fields, name: str) -> list[Any]:
    """Returns the list of a field, which may be JSON text. Raises Wrong."""
    value, place = fields.get(name), fields.at(name)
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = parse_json(value, place)
    if not isinstance(value, list):
        raise Wrong(place, "expected a list, found {kind}", kind=describe_kind(value))
    return value


def parse_json(text: str, place: str) -> Any:
    """Parses a JSON text. Raises Wrong."""
    decoder, text = Decoder(), text.strip()
    try:
        value, end = decoder.decode(text, 0)
    except (ValueError, RecursionError) as error:
        raise Wrong(place, "is not JSON ({reason})", reason=translate_error(error, LONG)) from None
    if end < len(text):
        raise Wrong(place, "is not JSON (more text follows at column {column})", column=end + 1)
    if decoder.twin is not None:
        raise Wrong(place, "has the key {key} twice", key=show_value(decoder.twin))
    return value


def copy_json(value: Any, place: str, drop_nulls: bool, depth: int = 0) -> Any:
    """Copies a value of JSON's types; `drop_nulls` leaves out keys without a value. Raises Wrong for other types."""
    if depth > MOST_DEPTH:
        raise Wrong(place, "is nested more than {most} levels deep", most=MOST_DEPTH)
    if isinstance(value, str):
        refuse_damage(value, place)
        return value
    # json.dumps could not write such a number later.
    if isinstance(value, int) and abs(value) >= 10**DIGITS:
        raise Wrong(place, "contains a number of more than {most:,} digits", most=DIGITS)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, float):
        raise Wrong(place, "contains {value}, which JSON does not have", value=value)
    if isinstance(value, list) and value and all(isinstance(item, tuple) and len(item) == 2 for item in value):
        # pyarrow returns a map as a list of pairs.
        value = dict(value)
    if isinstance(value, Mapping):
        made = {}
        for name, item in value.items():
            if item is None and drop_nulls:
                continue
            made[copy_json(name, place, drop_nulls, depth)] = copy_json(item, place, drop_nulls, depth + 1)
        return made
    if isinstance(value, list):
        return [copy_json(item, place, drop_nulls, depth + 1) for item in value]
    raise Wrong(place, "contains {kind}, which JSON does not have; write it as text", kind=describe_kind(value))
