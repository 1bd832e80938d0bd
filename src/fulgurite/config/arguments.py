"""`knob=value` words for the commands that Hydra does not compose (chat, export, runs)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from fulgurite.config.schema import check, describe_type, list_knobs, strip_none
from fulgurite.errors import ConfigError, suggest_similar

T = TypeVar("T")
YES = {"true": True, "false": False}


def format_usage(cls: type, command: str) -> str:
    """The parameters of a command, a line each."""
    return f"fulgurite {command} KNOB=VALUE ...\n\n" + "\n".join(
        f"  {knob.name:12} {knob.meaning}" for knob in list_knobs(cls)
    )


def parse(cls: type[T], words: Sequence[str], command: str) -> T:
    """An instance of the declared dataclass `cls` from words. Raises ConfigError with the
    nearest name or the remedy."""
    knobs = {k.name: k for k in list_knobs(cls)}
    given: dict[str, object] = {}
    if {"-h", "--help"} & set(words):
        print(format_usage(cls, command))
        raise SystemExit(0)
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise ConfigError(f"{word} cannot be read; write knob=value, such as {next(iter(knobs))}=...")
        if not name:
            raise ConfigError(f"{word} names no knob; write KNOB=VALUE.")
        if name not in knobs:
            raise ConfigError(f"{command} knows no {name}.{suggest_similar(name, knobs)} It knows {', '.join(knobs)}.")
        kind = strip_none(knobs[name].type)
        try:
            given[name] = None if text == "null" else YES[text.lower()] if kind is bool else kind(text)
        except (ValueError, KeyError) as error:
            raise ConfigError(f"{word} is not allowed: {name} must be {describe_type(kind)}.") from error
        check(knobs[name], given[name])
    return cls(**given)
