"""Which parameters a few words name: `last:2`, `first:3`, `layers:2,5-7`, `all`, or a pattern. Names in, names out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from fulgurite.errors import ConfigError, suggest_similar
from fulgurite.language.message import message

LAYERS = re.compile(r"(last|first|layers):(.*)")


@dataclass(frozen=True, slots=True)
class Names:
    """The parameter names of a model, and where its layers are: `prefix` is such as "model.layers", `count` their
    number."""

    all: tuple[str, ...]
    prefix: str
    count: int

    def layer(self, name: str) -> int | None:
        """Returns the layer of a parameter, or None if it is outside of all layers."""
        head, _, _ = name.removeprefix(f"{self.prefix}.").partition(".")
        return int(head) if name.startswith(f"{self.prefix}.") and head.isdigit() else None


def match_names(place: str, names: Sequence[str], where: Names, knob: str) -> list[str]:
    """Those of `names` that `place` names. Raises ConfigError where it is none or cannot be read."""
    found = _found(place, names, where, knob)
    if not found:
        parts = sorted({part for name in names for part in name.split(".") if not part.isdigit()})
        tied = message(" (the head may be tied to the embeddings, and then has their name)")
        raise ConfigError(
            "{parameter}: {place} matches nothing in the model{tied}.{hint} There are: {parts}.",
            parameter=knob, place=place, tied=tied if "head" in place else "", hint=suggest_similar(place, parts),
            parts=", ".join(parts),
        )
    return found


def _found(place: str, names: Sequence[str], where: Names, knob: str) -> list[str]:
    if place == "all":
        return list(names)
    layers = LAYERS.fullmatch(place)
    if layers is None:
        # With dots around, `norm` matches a whole part of a name and not a piece of one.
        return [name for name in names if fnmatchcase(f".{name}.", f"*.{place}.*") or fnmatchcase(name, place)]
    chosen = parse_layers(layers[1], layers[2], where.count, f"{knob}={place}")
    return [name for name in names if where.layer(name) in chosen]


def parse_layers(kind: str, text: str, count: int, said: str) -> set[int]:
    """The layer numbers, from 0, of `last:N`, `first:N`, `layers:2,5-7` in a model of `count` layers. Raises
    ConfigError."""
    if kind in ("last", "first"):
        if not text.isdigit() or not 1 <= int(text) <= count:
            raise ConfigError(
                "{given}: the number of layers must be 1 to {count}, as many as this model has.",
                given=said, count=count,
            )
        return set(range(count - int(text), count) if kind == "last" else range(int(text)))
    found: set[int] = set()
    for part in text.split(","):
        low, dash, high = part.strip().partition("-")
        if not low.isdigit() or (dash and not high.isdigit()):
            raise ConfigError(
                "{given}: {part!r} is no layer; write numbers and ranges from 0 to {last}, as in layers:2,5-7.",
                given=said, part=part, last=count - 1,
            )
        # A single number is a range of one layer.
        ends = int(low), int(high) if dash else int(low)
        if ends[0] > ends[1] or ends[1] >= count:
            raise ConfigError(
                "{given}: {part} is outside this model's layers, 0 to {last}.",
                given=said, part=part, last=count - 1,
            )
        found |= set(range(ends[0], ends[1] + 1))
    return found
