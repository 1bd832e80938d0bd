"""The result of a conversion: a line for each setting of a file, and the words of all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from fulgurite.config.run import GROUPS
from fulgurite.foreign_names.settings import quote_value
from fulgurite.language.message import UserMessage, get_english

NOTHING = UserMessage()


class Verdict(StrEnum):
    """What became of a setting."""

    taken = "taken"
    unneeded = "unneeded"
    """Nothing has to be set: it is so here already, or does not change the training."""
    refused = "refused"
    """The training would be another without it, and there is nothing that corresponds."""


@dataclass(frozen=True, slots=True)
class Line:
    """A setting of the file, the words for it, and why they are these or there are none."""

    key: str
    value: str
    verdict: Verdict
    words: tuple[str, ...] = ()
    reason: UserMessage = NOTHING
    is_default: bool = False
    """Whether the file lacks the key, so that the other trainer's default counts."""

    def to_json(self) -> dict[str, Any]:
        """Returns plain values, in English whatever language is in use."""
        return {"key": self.key, "value": self.value, "verdict": str(self.verdict), "words": list(self.words),
                "reason": get_english(self.reason), "default": self.is_default}


Answer = tuple[Verdict, tuple[str, ...], UserMessage]


def take(*words: str, reason: UserMessage = NOTHING) -> Answer:
    """Returns the answer for a setting that these words make."""
    return Verdict.taken, words, reason


def drop(reason: UserMessage) -> Answer:
    """Returns the answer for a setting that need not be set."""
    return Verdict.unneeded, (), reason


def refuse(reason: UserMessage) -> Answer:
    """Returns the answer for a setting without a counterpart."""
    return Verdict.refused, (), reason


@dataclass(slots=True)
class Settings:
    """The settings of a file by their last names, and the defaults of those that it lacks."""

    given: Mapping[str, Any]
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def get(self, key: str) -> Any:
        """Returns the value of a key: the file's, else the other trainer's default, else None."""
        value = self.given.get(key)
        return self.defaults.get(key) if value is None else value

    def is_on(self, key: str) -> bool:
        """Returns whether a switch is on."""
        return is_true(self.get(key))


Handler = Callable[[Settings, Any], Answer]
"""Makes the answer for the value of a key, given the other settings."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """A file in our words."""

    owner: str
    lines: tuple[Line, ...]

    @property
    def words(self) -> list[str]:
        """The words of the command line: options first, in the order of the groups, and a parameter once, with its last
        value."""
        found: dict[str, str] = {}
        for line in self.lines:
            for word in line.words:
                name = word.partition("=")[0]
                found.pop(name, None)
                found[name] = word
        order = {group: number for number, group in enumerate(GROUPS)}
        return sorted(found.values(), key=lambda word: order.get(word.partition("=")[0], len(order)))

    def select(self, verdict: Verdict, *, defaults: bool = False) -> list[Line]:
        """Returns the lines with a verdict: those of the file, or those of defaults."""
        return [line for line in self.lines if line.verdict is verdict and line.is_default is defaults]


def is_true(value: Any) -> bool:
    """Returns whether a value of YAML, or a text, is true."""
    return value is True or str(value).strip().lower() in ("true", "yes", "on", "1")


def show_value(value: Any) -> str:
    """Returns a value as the file has it, in one line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(show_value(item) for item in value)
    return "null" if value is None else str(value)


def write_word(name: str, value: Any) -> str:
    """Returns `name=value` as it is written on a command line."""
    if isinstance(value, list | tuple):
        return f"{name}=[{','.join(quote_value(show_value(item)) for item in value)}]"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    return f"{name}={quote_value(show_value(value))}"
