"""Values of parameters as a person types them on the page: read, checked by the kind of the parameter, and written as
the value of a word for the command line.

Text is never interpreted: whatever is in it, Hydra sees it inside quotes. A list is typed in brackets and a mapping in
braces, their texts with or without quotes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Any, get_args, get_origin

from fulgurite.config.check_value import describe_expected
from fulgurite.config.half_width import narrow
from fulgurite.config.override_names import encode_key
from fulgurite.config.overrides import UNREADABLE, quote_verbatim, read_value, split
from fulgurite.config.paths import is_there
from fulgurite.config.schema import Knob, strip_none
from fulgurite.errors import ConfigError
from fulgurite.language.message import UserMessage, message

NUMBER = re.compile(r"[+-]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9][0-9_]*)?|[+-]?(?:inf|nan)", re.I)
BARE = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*")
"""Text that Hydra reads as it is, without quotes."""
PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
TYPED_WORDS = {"true", "false", "null", "inf", "nan"}
"""Words that Hydra reads as something else than text."""
TRUTH = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
EMPTY = ("", "null")
QUOTES = "'\""
LONGEST = 100_000
"""Bytes of the longest value: the system passes at most 128 KiB in one argument."""
UNSET = object()
"""The value of a field that was emptied and cannot be empty: the parameter is left as it is."""


class DraftError(ConfigError):
    """A value or choice of a draft is refused; `about` is the name of the parameter or group."""

    def __init__(self, sentence: UserMessage, about: str = "") -> None:
        super().__init__(sentence)
        self.about = about

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message, self.about)


def get_kind(knob: Knob) -> str:
    """Returns the kind of control for a parameter: number, bool, choice, list, map or text."""
    kind = strip_none(knob.type)
    if knob.values is not None or (isinstance(kind, type) and issubclass(kind, StrEnum)):
        return "choice"
    if kind is bool:
        return "bool"
    if kind in (int, float):
        return "number"
    return {list: "list", dict: "map"}.get(get_origin(kind), "text")


def parse_typed(knob: Knob, text: str) -> Any:
    """Returns the plain value of what was typed, None if it is empty, or UNSET. Raises DraftError."""
    check_text(knob.path, text)
    kind, bare = get_kind(knob), text.strip()
    # a choice first: one may be called `none` or `null`, which otherwise empties the parameter
    choice = _find_choice(knob, bare) if kind == "choice" else None
    if choice is not None:
        return choice
    if knob.empty is not None and (bare.casefold() in EMPTY or (kind != "text" and bare.casefold() == "none")):
        return None
    if not bare and kind in ("number", "bool", "choice"):
        return UNSET
    readers = {
        "number": _read_number, "bool": _read_bool, "choice": _refuse_value, "list": _read_list, "map": _read_map,
    }
    return readers[kind](knob, text) if kind in readers else text


def write_typed(knob: Knob, text: str) -> str | None:
    """Returns what was typed as the value of a word for the command line; None if there is nothing to set.

    Raises DraftError if the parameter cannot have such a value.
    """
    value = parse_typed(knob, text)
    if value is UNSET:
        return None
    if get_kind(knob) == "number" and value is not None:
        return narrow(text).strip()
    return write_value(value, get_origin(strip_none(knob.type)) is dict and get_args(strip_none(knob.type))[1] is str)


def check_text(name: str, text: str) -> None:
    """Raises DraftError for a text that cannot be an argument of a program."""
    if "\0" in text:
        raise DraftError(message("{name} contains a NUL character, which no text may contain.", name=name), name)
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise DraftError(message("{name} contains half of a character, which is no text.", name=name), name) from error
    if size > LONGEST:
        raise DraftError(
            message(
                "{name} has {size:,} bytes, and may have at most {most:,}; put long texts into a file.",
                name=name, size=size, most=LONGEST,
            ),
            name,
        )


def write_value(value: Any, text_values: bool = True) -> str:
    """Returns a plain value as the value of a word. `text_values`: every value of a mapping is text."""
    if isinstance(value, str):
        return value if BARE.fullmatch(value) and value.lower() not in TYPED_WORDS else quote_verbatim(value)
    if isinstance(value, Mapping):
        pairs = (f"{_write_key(key, text_values)}:{write_value(item)}" for key, item in value.items())
        return "{" + ",".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ",".join(write_value(item) for item in value) + "]"
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else format_typed(value)


def _write_key(key: str, text_values: bool) -> str:
    if PLAIN_KEY.fullmatch(key) and key.lower() not in TYPED_WORDS:
        return key
    # a key in quotes is read back only in a mapping of texts
    is_simple = key == key.strip() != "" and not set(key) & set("'\"\\$\n")
    return f"'{key}'" if text_values and is_simple else encode_key(key)


def format_typed(value: Any) -> str:
    """Returns a plain value as a person would type it; no text for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return _format_float(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_format_item, value)) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_format_item(str(key))}: {_format_item(item)}" for key, item in value.items()) + "}"
    return str(value)


def _format_item(item: Any) -> str:
    if not isinstance(item, str):
        return "null" if item is None else format_typed(item)
    plain = item.strip() == item and item and not set(item) & set(",:'\"[]{}()\\\n\t")
    is_typed = item.lower() in TYPED_WORDS or NUMBER.fullmatch(item) is not None
    if plain and not is_typed:
        return item
    # as in `quote`: backslashes count only before a quote, also before the one that ends the text
    escaped = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), item)
    return f"'{escaped}'"


def _format_float(x: float) -> str:
    """Formats a number with all its digits: `1e-4`, `0.05`, `3`."""
    if x != x or x in (float("inf"), float("-inf")):
        return str(x)
    if x == int(x) and abs(x) < 1e15:
        return str(int(x))
    if 0 < abs(x) < 0.01:
        # repr has the fewest digits that give the same float; Decimal takes them apart without rounding
        sign, digits, _ = Decimal(repr(x)).normalize().as_tuple()
        first, rest = str(digits[0]), "".join(map(str, digits[1:]))
        return f"{'-' * sign}{first}{'.' if rest else ''}{rest}e{Decimal(repr(x)).adjusted()}"
    return repr(x)


def _refuse_value(knob: Knob, text: str) -> Any:
    expected = describe_expected(knob.type)
    if knob.choices:
        expected = message("one of {names}", names=", ".join(knob.choices))
    shown = text if len(text) <= 80 else f"{text[:79]}…"
    raise DraftError(
        message("{name}={value} is not allowed: it must be {kind}.", name=knob.path, value=shown, kind=expected),
        knob.path,
    )


def _find_choice(knob: Knob, text: str) -> str | None:
    folded = narrow(text).casefold()
    return next((name for name in knob.choices if name.casefold() == folded), None)


def _read_number(knob: Knob, text: str) -> int | float:
    return _to_number(knob, text, strip_none(knob.type) is int)


def _to_number(knob: Knob, text: str, whole: bool) -> int | float:
    digits = narrow(text).strip()
    if not NUMBER.fullmatch(digits):
        _refuse_value(knob, text.strip())
    try:
        return int(digits) if whole else float(digits)
    except ValueError:
        return float(digits) if not whole else int(_refuse_value(knob, text.strip()))


def _read_bool(knob: Knob, text: str) -> bool:
    found = TRUTH.get(narrow(text).strip().casefold())
    return bool(_refuse_value(knob, text.strip()) if found is None else found)


def _read_list(knob: Knob, text: str) -> list[Any]:
    kind = get_args(strip_none(knob.type))[0]
    is_text = kind is str
    bare = text.strip() if is_text else narrow(text).strip()
    if bare.startswith("[") and bare.endswith("]"):
        inside = bare[1:-1]
        items = [_read_item(knob, part) for part in split(inside)] if inside.strip() else []
    elif not is_text or not (re.search(r"\s", bare) or bare[:1] in QUOTES or (knob.resolve and is_there(bare))):
        # several plain words, as other tools take them: q_proj,v_proj
        items = [part.strip() for part in bare.split(",")] if bare else []
    else:
        items = [bare if bare[:1] not in QUOTES else _read_item(knob, bare)] if bare else []
    if is_text:
        return items
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        members = {str(member) for member in kind}
        return [item if item in members else _refuse_value(knob, text) for item in items]
    return [_to_number(knob, item, kind is int) for item in items]


def _read_item(knob: Knob, part: str) -> str:
    """Returns an item of a list or a mapping: the text inside its quotes, or the text itself."""
    bare = part.strip()
    if bare[:1] not in ("'", '"'):
        return bare
    text = read_value(bare)
    if not isinstance(text, str):
        raise DraftError(
            message("{name}: the quotes of {text} do not match.", name=knob.path, text=bare[:80]), knob.path
        )
    return text


def _read_map(knob: Knob, text: str) -> dict[str, Any]:
    kind = get_args(strip_none(knob.type))[1]
    bare = text.strip()
    inside = bare[1:-1] if bare.startswith("{") and bare.endswith("}") else bare
    found: dict[str, Any] = {}
    for part in split(inside) if inside.strip() else []:
        key, item = _split_pair(knob, part)
        if kind is str:
            found[key] = _read_item(knob, item)
        elif kind in (int, float):
            found[key] = _to_number(knob, item, kind is int)
        else:
            found[key] = _read_any(knob, item)
    return found


def _split_pair(knob: Knob, part: str) -> tuple[str, str]:
    quoted = re.fullmatch(r"""\s*(?P<key>'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")\s*[:：](?P<item>.*)""", part, re.DOTALL)
    if quoted:
        return _read_item(knob, quoted["key"]), quoted["item"]
    key, colon, item = part.partition(":") if ":" in part else part.partition("：")
    if not colon or not key.strip():
        raise DraftError(
            message("{name}: {text} is no pair; write key: value.", name=knob.path, text=part.strip()[:80]), knob.path
        )
    return key.strip(), item


def _read_any(knob: Knob, text: str) -> Any:
    """Returns a value of a mapping that may hold any: a truth value, a number, a list, a mapping, else text."""
    bare = text.strip()
    if bare[:1] in ("'", '"'):
        return _read_item(knob, bare)
    if bare[:1] in ("[", "{"):
        found = read_value(bare)
        return _refuse_value(knob, bare) if found is UNREADABLE else _to_plain(found)
    if bare.lower() in ("true", "false", "null"):
        return {"true": True, "false": False, "null": None}[bare.lower()]
    if NUMBER.fullmatch(bare):
        return int(bare) if re.fullmatch(r"[+-]?[0-9_]+", bare) else float(bare)
    return bare


def _to_plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(getattr(key, "text", key)): _to_plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_to_plain(item) for item in value]
    return getattr(value, "text", value)
