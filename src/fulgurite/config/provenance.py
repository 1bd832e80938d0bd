"""A resolved run: its frozen config, and for each parameter the decision that gave it its value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from fulgurite.config.decision import Decision
from fulgurite.config.frozen import FrozenList
from fulgurite.config.run import RunConfig
from fulgurite.config.schema import Option
from fulgurite.language.message import UserMessage


@dataclass(frozen=True, slots=True)
class Unusual:
    """A value that was given outside the usual range of its parameter, and a sentence about it."""

    parameter: str
    sentence: str | UserMessage


@dataclass(frozen=True, slots=True)
class Composed:
    """A typed run with the decision on each parameter; `unusual` are the values outside their usual ranges.

    It never changes: each step of `config.resolve` returns another one.
    """

    run: RunConfig
    choices: Mapping[str, str]
    provenance: Mapping[str, Decision]
    overrides: Sequence[str]
    multirun: bool = False
    unusual: Sequence[Unusual] = field(default_factory=FrozenList)

    @property
    def warnings(self) -> list[str]:
        """The sentences about unusual values."""
        return [str(value.sentence) for value in self.unusual]

    def dump_config(self) -> dict[str, Any]:
        """The whole config as plain values, each group with its option's name under
        `option`: enough to run it again."""
        found: dict[str, Any] = to_plain(self.run)
        return found


def to_plain(node: Any) -> Any:
    """Dataclasses as mappings of plain JSON values; an option's name goes under `option`."""
    if is_dataclass(node):
        head = {"option": type(node).name} if isinstance(node, Option) else {}
        return head | {f.name: to_plain(getattr(node, f.name)) for f in fields(node)}
    if isinstance(node, dict):
        return {key: to_plain(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [to_plain(value) for value in node]
    return str(node) if isinstance(node, str) else node
