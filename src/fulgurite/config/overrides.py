"""Overrides as they were typed: the value of a text parameter stays text, whatever Hydra would read in it.

Hydra reads `2026_11_29` as 20261129, `1e3` as 1000.0, `12e4567` as infinity and `a,b` as two values of a sweep.
Here such a value is put into quotes before Hydra sees it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml

from fulgurite.config.override_names import encode_key, read_name
from fulgurite.config.schema import Knob, strip_none
from fulgurite.errors import ConfigError

OPENING, CLOSING = "([{", ")]}"
CHOICE = re.compile(r"choice\((.*)\)", re.DOTALL)
QUOTED_KEY = re.compile(r"""\s*(['"])(.*?)\1\s*:(.*)""", re.DOTALL)
INTERPOLATION = re.compile(r"(\\*)\$\{")
ESCAPED = re.compile(r"(\\+)\$\{")
UNREADABLE = object()
"""What `read_value` gives for a value that Hydra cannot read."""


def quote(value: object) -> str:
    """A text as the value of an override, whatever is in it."""
    # only before a quote is one special
    text = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), str(value))
    return f"'{text}'"


def quote_verbatim(value: object) -> str:
    """A text as the value of an override that reads no other value, even if it has `${` in it."""
    return quote(escape_literal(str(value)))


def escape_literal(value: Any) -> Any:
    """A plain value whose texts OmegaConf takes as they are: `${` in them is escaped,
    so that it reads no other value."""
    if isinstance(value, str):
        return INTERPOLATION.sub(lambda found: found[1] * 2 + "\\${", value)
    if isinstance(value, dict):
        return {key: escape_literal(item) for key, item in value.items()}
    return [escape_literal(item) for item in value] if isinstance(value, list) else value


def unescape(value: Any) -> Any:
    """The inverse of `escape_literal`. A `${` that is not escaped stays as text too: nothing is ever looked up."""
    if isinstance(value, str):
        return ESCAPED.sub(lambda found: "\\" * (len(found[1]) // 2) + "${" if len(found[1]) % 2 else found[0], value)
    if isinstance(value, dict):
        return {key: unescape(item) for key, item in value.items()}
    return [unescape(item) for item in value] if isinstance(value, list) else value


def read_value(value: str, keep_quotes: bool = False) -> Any:
    """A value as Hydra reads it, or UNREADABLE."""
    # Hydra takes a quarter of a second to import, which the server of the board does not need to start.
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import QuotedString
    from hydra.errors import HydraException

    try:
        found = OverridesParser.create().parse_override(f"x={value}").value()
    except (HydraException, ValueError, RecursionError):  # ValueError: an integer of more digits than Python reads
        return UNREADABLE
    return found if keep_quotes or not isinstance(found, QuotedString) else found.text


def _is_choice(found: object) -> bool:
    """Returns whether a value that was read is a choice of a sweep."""
    from hydra.core.override_parser.types import ChoiceSweep

    return isinstance(found, ChoiceSweep)


def find_text_kind(name: str, knobs: Mapping[str, Knob]) -> str:
    """How a parameter holds text: "text", "list", "mapping", or "" if it does not."""
    knob, parent = knobs.get(name), knobs.get(name.rpartition(".")[0])
    if knob is None:
        return "text" if parent is not None and _is_mapping(strip_none(parent.type)) else ""
    kind = strip_none(knob.type)
    if kind is str:
        return "text"
    if get_origin(kind) is list and get_args(kind) == (str,):
        return "list"
    return "mapping" if _is_mapping(kind) else ""


def _is_mapping(kind: Any) -> bool:
    return get_origin(kind) is dict and get_args(kind) == (str, str)


def quote_typed(text: str, knobs: Mapping[str, Knob], multirun: bool = False) -> str:
    """The override with its text in quotes where Hydra would read something else;
    in a multirun a comma separates values."""
    head, equals, value = text.partition("=")
    kind = find_text_kind(read_name(text), knobs)
    if not equals or not kind or not value.strip():
        return text
    keep: Callable[[str], str] = {"text": _quote_text, "list": _quote_list, "mapping": _quote_mapping}[kind]
    found = read_value(value, keep_quotes=True)
    if multirun and _is_choice(found):
        inside = CHOICE.fullmatch(value.strip())
        return f"{head}={','.join(keep(part) for part in split(inside[1] if inside else value))}"
    return f"{head}={keep(value)}"


def _quote_text(value: str) -> str:
    found = read_value(value, keep_quotes=True)
    # what Hydra would read as a number, or `a,b` as several values; choice(...) was meant as such
    typed = isinstance(found, bool | int | float) or (
        _is_choice(found) and CHOICE.fullmatch(value.strip()) is None
    )
    unreadable = found is UNREADABLE and value.strip()[0] not in "'\"[{"
    return quote(value.strip()) if typed or unreadable else value


def _quote_list(value: str) -> str:
    bare_value = value.strip()
    if not (bare_value.startswith("[") and bare_value.endswith("]")):
        found = read_value(value, keep_quotes=True)
        whole = isinstance(found, list | dict) or _is_choice(found) or bare_value.startswith("[")
        one = found is not None and not whole
        return f"[{_quote_text(value)}]" if one else value
    inside = bare_value[1:-1]
    return f"[{','.join(_quote_element(part) for part in split(inside))}]" if inside.strip() else value


def _quote_element(value: str) -> str:
    return quote("null") if value.strip() == "null" else _quote_text(value) if value.strip() else value


def _quote_mapping(value: str) -> str:
    bare_value = value.strip()
    if not (bare_value.startswith("{") and bare_value.endswith("}")):
        return value
    return "{" + ",".join(_quote_pair(part) for part in split(bare_value[1:-1])) + "}"


def _quote_pair(part: str) -> str:
    quoted_key = QUOTED_KEY.fullmatch(part)
    # Hydra takes no key in quotes, so that such a key is encoded, and decoded again by `resolve`
    key, colon, item = (quoted_key[2], ":", quoted_key[3]) if quoted_key else part.partition(":")
    if not colon:
        return part
    if quoted_key or read_value(f"{{{key}:x}}") is UNREADABLE:
        key = encode_key(key.strip())
    return f"{key}:{_quote_element(item)}"


def split(text: str) -> list[str]:
    """Returns the parts between commas outside of quotes and brackets."""
    parts, depth, quote, start, at = [], 0, "", 0, 0
    fresh = True
    while at < len(text):
        sign = text[at]
        if quote:
            # inside quotes a backslash takes the next sign with it
            at += sign == "\\"
            quote = "" if sign == quote else quote
        elif sign == "\\":
            at += 1
        elif sign in "'\"" and fresh:  # in the middle of a word it is an apostrophe
            quote = sign
        elif sign in OPENING or sign in CLOSING:
            depth += 1 if sign in OPENING else -1
        elif sign == "," and depth <= 0:
            parts.append(text[start:at])
            start = at + 1
        # a value begins here, so that a quote now opens one
        fresh = sign in ",:" + OPENING or (fresh and sign.isspace())
        at += 1
    return [*parts, text[start:]]


def check_file(path: Path, group: str, loaded: Any, knobs: Mapping[str, Knob]) -> None:
    """Raise ConfigError if YAML reads a text parameter of the file as a number or a truth value,
    and would write it otherwise."""
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, UnicodeError, yaml.YAMLError):
        return  # whoever loads it reports the error
    if isinstance(root, yaml.MappingNode):
        _check_node(root, loaded, group, path, knobs)


def _check_node(node: yaml.MappingNode, loaded: Any, place: str, path: Path, knobs: Mapping[str, Knob]) -> None:
    for key_node, value_node in node.value:
        key = str(key_node.value)
        name = f"{place}.{key}" if place else key
        value = loaded.get(key) if isinstance(loaded, dict) else None
        if isinstance(value_node, yaml.MappingNode):
            _check_node(value_node, value, name, path, knobs)
            continue
        if not find_text_kind(name, knobs):
            continue
        found = list(zip(value_node.value, value, strict=True)) if isinstance(value, list) else [(value_node, value)]
        for scalar, item in found:
            if isinstance(item, bool | int | float) and str(item) != scalar.value:
                raise ConfigError(
                    "{path}: {name} is text, and YAML reads {value} as {item}; put it into quotes: {key}: "
                    "'{value}'.",
                    path=path, name=name, value=scalar.value, item=item, key=key,
                )
