"""What `explain` says in other languages: each text found by its place, its field and a hash of its English.

A changed English text has another hash, so that a stale translation is never shown: the English is shown in its
place, and `python -m fulgurite.explain.translate --stale` names it. gettext was looked at: its catalogues are keyed
by the English alone, and two knobs may say the same English about different things.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

LANGUAGES = ("en", "zh")
FOLDER = Path(__file__).resolve().parent

_language: ContextVar[str] = ContextVar("language", default="en")
missed: set[tuple[str, str, str]] = set()
"""What was asked for and is not there in the language spoken: (place, field, English). A test finds it empty."""


@contextmanager
def use_language(language: str) -> Iterator[None]:
    """Speak a language of LANGUAGES inside the block."""
    token = _language.set(language)
    try:
        yield
    finally:
        _language.reset(token)


def get_language() -> str:
    """The language that is spoken."""
    return _language.get()


def detect_language(environment: Mapping[str, str]) -> str:
    """The language of a terminal: of LC_ALL, else LC_MESSAGES, else LANG; English where it is not one of ours."""
    named = next((environment[name] for name in ("LC_ALL", "LC_MESSAGES", "LANG") if environment.get(name)), "")
    return "zh" if named.lower().startswith("zh") else "en"


def compute_digest(english: str) -> str:
    """Eight hexadecimal digits of SHA-256 of the English, on one line."""
    return hashlib.sha256(" ".join(english.split()).encode()).hexdigest()[:8]


def translate_text(place: str, field: str, english: str) -> str:
    """The text in the language spoken; the English where that is spoken, or where no fresh translation is there."""
    if not english or get_language() == "en":
        return english
    found = load_catalogue(get_language()).get(place, {}).get(field, {}).get(compute_digest(english))
    if found is None:
        missed.add((place, field, english))
    return found or english


def translate(english: str) -> str:
    """A word or a pattern of the pages themselves."""
    return translate_text("page", "words", english)


@cache
def load_catalogue(language: str) -> dict[str, dict[str, dict[str, str]]]:
    """All texts of a language: place, field, hash of the English, text. Read once, by libyaml where it is there."""
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    text = (FOLDER / f"{language}.yaml").read_text(encoding="utf-8")
    return yaml.load(text, Loader=loader) or {}  # a SafeLoader, whichever: plain values only
