"""What a record becomes: a place, and a conversation or a text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record stands: its file, and the number of its line (or of the record, from 1)."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. Roles are those of chat templates: system, user, assistant, tool."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Example:
    """A conversation, or a text; never both. A conversation may have a second, worse end, or a judgement."""

    place: Place
    messages: tuple[Message, ...] | None = None
    text: str | None = None
    file: int = 0
    """The number of the file in the order they were given."""
    rejected: tuple[Message, ...] | None = None
    """The same conversation with the worse of two last answers."""
    good: bool | None = None
    """Whether the last answer was judged good."""
    margin: float = 0.0
    """By how much the better answer must win."""
    columns: dict[str, Any] = field(default_factory=dict)
    """What the record says besides its prompt; for rewards."""


@dataclass(frozen=True, slots=True)
class Bad:
    """A record that cannot be used: where, which field, why."""

    place: Place
    field: str
    reason: str

    def __str__(self) -> str:
        return f"{self.place}: field '{self.field}': {self.reason}"
