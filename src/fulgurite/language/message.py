"""Sentences as data: an English template and the facts that fill it. They become text when they are shown, in the
language in use then."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fulgurite.language.catalogue import translate_template
from fulgurite.language.current import get_language, use_language

AFTER_WIDE = re.compile(r"(?<=[。？！；：，）]) (?=[^ ])")
"""One space after wide punctuation, which is as wide as a letter with its space; more than one are a column."""


@dataclass(frozen=True, slots=True)
class UserMessage:
    """A sentence as data. A fact can be a UserMessage too."""

    template: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        template = translate_template(self.template)
        # A text without facts may have braces of its own, which format would read as places.
        text = template.format(**self.facts) if self.facts else template
        return text if get_language() == "en" else AFTER_WIDE.sub("", text)

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def __bool__(self) -> bool:
        return bool(self.template)

    @property
    def english(self) -> str:
        """The sentence in English, whatever language is in use: for files and programs."""
        with use_language("en"):
            return str(self)

    def to_json(self) -> dict[str, Any]:
        """Returns plain values, from which `read_message` makes the sentence again."""
        return {"key": self.template, "facts": {name: _to_plain(fact) for name, fact in self.facts.items()}}


def message(template: str, /, **facts: Any) -> UserMessage:
    """Returns the sentence `template`, whose places in braces are filled with `facts`.

    The template is a literal, so that the tests find it in the source and compare it with the catalogues.
    """
    return UserMessage(template, facts)


def as_message(sentence: str | UserMessage) -> UserMessage:
    """Returns a text as a UserMessage without facts."""
    return sentence if isinstance(sentence, UserMessage) else UserMessage(sentence)


def get_english(sentence: object) -> str:
    """Returns the text of a UserMessage, of an exception or of any other object in English."""
    with use_language("en"):
        return str(sentence)


def read_message(stored: Mapping[str, Any]) -> UserMessage:
    """Makes a sentence of what `UserMessage.to_json` returned."""
    facts = {n: read_message(f) if isinstance(f, Mapping) and "key" in f else f for n, f in stored["facts"].items()}
    return UserMessage(str(stored["key"]), facts)


def _to_plain(fact: Any) -> Any:
    if isinstance(fact, UserMessage):
        return fact.to_json()
    if fact is None or isinstance(fact, bool | int | float):
        return fact
    if isinstance(fact, list | tuple) and not any(isinstance(item, Path) for item in fact):
        return [_to_plain(item) for item in fact]
    return str(fact)
