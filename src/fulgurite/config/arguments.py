"""Reads `parameter=value` words for the commands that Hydra does not compose (chat, export)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from fulgurite.config.check_value import check, describe_expected
from fulgurite.config.schema import list_knobs, strip_none
from fulgurite.errors import ConfigError, suggest_similar
from fulgurite.language.catalogue import translate_text

T = TypeVar("T")
YES = {"true": True, "false": False}


def format_usage(cls: type, command: str) -> str:
    """Returns the parameters of a command, one per line."""
    return f"fulgurite {command} PARAMETER=VALUE ...\n\n" + "\n".join(
        f"  {knob.name:12} {translate_text(knob.path, 'meaning', knob.meaning)}" for knob in list_knobs(cls)
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
            given[name] = None if text == "null" else YES[text.lower()] if kind is bool else kind(text)
        except (ValueError, KeyError) as error:
            raise ConfigError(
                "{word} is not allowed: {name} must be {kind}.", word=word, name=name, kind=describe_expected(kind)
            ) from error
        check(knobs[name], given[name])
    return cls(**given)
