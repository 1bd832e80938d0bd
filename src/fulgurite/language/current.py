"""Which language is spoken: the process has one, and a block of code can have another."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

LANGUAGES = ("en", "zh")
VARIABLE = "FULGURITE_LANG"
"""The environment variable that names the language, ahead of the locale; child processes inherit it."""

_block: ContextVar[str | None] = ContextVar("language", default=None)
_process = ["en"]
"""The language outside of `use_language`. A context variable does not reach threads that others start."""


@contextmanager
def use_language(language: str) -> Iterator[None]:
    """Uses a language of LANGUAGES inside the block."""
    token = _block.set(language)
    try:
        yield
    finally:
        _block.reset(token)


def get_language() -> str:
    """Returns the language in use."""
    return _block.get() or _process[0]


def set_language(language: str, *, inherit: bool = False) -> None:
    """Sets the language of this process; `inherit` passes it on to the processes that this one starts."""
    _process[0] = language
    if inherit:
        os.environ[VARIABLE] = language


def detect_language(environment: Mapping[str, str]) -> str:
    """Returns the language of a terminal by FULGURITE_LANG, LC_ALL, LC_MESSAGES and LANG; English if it is not ours."""
    names = (VARIABLE, "LC_ALL", "LC_MESSAGES", "LANG")
    named = next((environment[name] for name in names if environment.get(name)), "")
    return "zh" if named.lower().startswith("zh") else "en"
