"""Reads `parameter=value` words for the commands that Hydra does not compose (chat, export, eval)."""

from __future__ import annotations

import csv
import typing
from collections.abc import Sequence
from typing import Any, TypeVar

from fulgurite.config.check_value import check, describe_expected
from fulgurite.config.schema import list_knobs, strip_none
from fulgurite.errors import ConfigError, suggest_similar
from fulgurite.language.catalogue import translate_text

T = TypeVar("T")
YES = {"true": True, "false": False}


def format_usage(cls: type, command: str) -> str:
    """Returns the parameters of a command, one per line."""
    knobs = list_knobs(cls)
    width = max(12, *(len(knob.name) for knob in knobs))
    return f"fulgurite {command} PARAMETER=VALUE ...\n\n" + "\n".join(
        f"  {knob.name:{width}} {translate_text(knob.path, 'meaning', knob.meaning)}" for knob in knobs
    )


def parse(cls: type[T], words: Sequence[str], command: str) -> T:
    """Builds the declared dataclass `cls` from words. Raises ConfigError with the nearest name or the remedy."""
    knobs = {k.name: k for k in list_knobs(cls)}
    given: dict[str, object] = {}
    if {"-h", "--help"} & set(words):
        print(format_usage(cls, command))
        raise SystemExit(0)
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise ConfigError(
                "{word} is not of the form parameter=value; write for example {name}=...",
                word=word, name=next(iter(knobs)),
            )
        if not name:
            raise ConfigError("{word} has no parameter before the =; write parameter=value.", word=word)
        if name not in knobs:
            raise ConfigError(
                "fulgurite {command} has no parameter {name}.{hint} It has {names}.",
                command=command, name=name, hint=suggest_similar(name, knobs), names=", ".join(knobs),
            )
        kind = strip_none(knobs[name].type)
        try:
            given[name] = None if text == "null" else _convert(kind, text)
        except (ValueError, KeyError) as error:
            raise ConfigError(
                "{word} is not allowed: {name} must be {kind}.", word=word, name=name, kind=describe_expected(kind)
            ) from error
        check(knobs[name], given[name])
    return cls(**given)


def _convert(kind: Any, text: str) -> Any:
    """Returns the value of a parameter of this type; a list is written as A,B or [A,B], an item with a comma in
    quotes. Raises ValueError or KeyError."""
    if kind is bool:
        return YES[text.lower()]
    if typing.get_origin(kind) is not list:
        return kind(text)
    inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    item = typing.get_args(kind)[0]
    found = [part.strip() for row in csv.reader([inner], skipinitialspace=True) for part in row]
    return [item(part) for part in found if part]
