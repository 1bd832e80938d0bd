"""The texts of each language. Those of declarations are found by place, field and a hash of the English; sentences by
their English template.

A changed English text is not found, so that a stale translation is never shown: the English appears instead, and
`python -m fulgurite.explain.translate --stale` lists it. gettext was considered: its catalogues are keyed by the
English alone, and two parameters can have the same English with different meanings.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fulgurite.language.current import get_language

FOLDER = Path(__file__).resolve().parent
PLACE = re.compile(r"\{[^{}]*\}")
"""The place of a fact in a template."""
LETTER = re.compile(r"[^\W\d_]")

missed: set[tuple[str, str, str]] = set()
"""Texts that were requested and have no translation in the language in use: (place, field, English)."""


def compute_digest(english: str) -> str:
    """Returns eight hexadecimal digits of the SHA-256 of the English text, on one line."""
    return hashlib.sha256(" ".join(english.split()).encode()).hexdigest()[:8]


def translate_text(place: str, field: str, english: str) -> str:
    """Returns the text in the language in use; the English if it has no fresh translation."""
    if not english or get_language() == "en":
        return english
    found = load_catalogue(get_language()).get(place, {}).get(field, {}).get(compute_digest(english))
    if found is None:
        missed.add((place, field, english))
    return found or english


@dataclass(frozen=True, slots=True)
class DeclaredText:
    """A text of a declaration as a fact of a sentence: it is shown in the language that is in use then."""

    place: str
    field: str
    text: str

    def __str__(self) -> str:
        return translate_text(self.place, self.field, self.text)


def translate(english: str) -> str:
    """Returns a word or a pattern of the pages themselves."""
    return translate_text("page", "words", english)


def translate_template(template: str) -> str:
    """Returns the template of a sentence in the language in use; the English if it has no translation."""
    # A template of places and punctuation alone, such as "{a}: {b}", has nothing to translate.
    if get_language() == "en" or not LETTER.search(PLACE.sub("", template)):
        return template
    found = load_messages(get_language()).get(template)
    if found is None:
        missed.add(("message", "template", template))
    return found or template


@cache
def load_catalogue(language: str) -> dict[str, dict[str, dict[str, str]]]:
    """Returns the texts of declarations and pages: place, field, hash of the English, text."""
    found: dict[str, dict[str, dict[str, str]]] = _read_yaml(FOLDER / language / "declarations.yaml")
    return found


@cache
def load_messages(language: str) -> dict[str, str]:
    """Returns the sentences of a language by their English templates, from the files of `messages`.

    Raises ValueError if two files have the same template.
    """
    found: dict[str, str] = {}
    for path in list_message_files(language):
        held: dict[str, str] = _read_yaml(path)
        if twice := found.keys() & held.keys():
            raise ValueError(f"{path.name} repeats {sorted(twice)[0]!r}")
        found.update(held)
    return found


def list_message_files(language: str) -> list[Path]:
    """Returns the files of sentences of a language, one for each package."""
    return sorted((FOLDER / language / "messages").glob("*.yaml"))


def _read_yaml(path: Path) -> Any:
    import yaml

    # The loader in C is much faster, but PyYAML may be built without it.
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    text = path.read_text(encoding="utf-8")
    return yaml.load(text, Loader=loader) or {}  # a SafeLoader, whichever: plain values only
