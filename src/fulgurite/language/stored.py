"""Sentences of files, which hold English and the sentence as data, in the language in use."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fulgurite.language.catalogue import LETTER, PLACE, load_messages
from fulgurite.language.current import get_language
from fulgurite.language.message import read_message

CLASS_NAME = re.compile(r"[A-Z]\w*: ")
"""The name of an exception before its sentence, in status.json."""


def describe_reason(status: Mapping[str, Any]) -> str:
    """Returns the reason in a run's status.json as the command printed it, in the language in use."""
    why = status.get("why")
    text = why if isinstance(why, str) else ""
    name = CLASS_NAME.match(text)
    return translate_stored(status.get("because"), text[name.end():] if name else text)


def translate_stored(stored: Any, english: str) -> str:
    """Returns a sentence of a file in the language in use, made of its data; the English text if that is not possible.

    A template that is not in our catalogue is never filled: a foreign one could read attributes of its facts.
    """
    if get_language() == "en" or not _is_known(stored):
        return english
    try:
        return str(read_message(stored)) or english
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return english  # facts of another version do not fit


def _is_known(stored: Any) -> bool:
    if not isinstance(stored, Mapping) or not isinstance(stored.get("facts"), Mapping):
        return False
    key = stored.get("key")
    if not isinstance(key, str) or (key not in load_messages(get_language()) and LETTER.search(PLACE.sub("", key))):
        return False
    names = {re.split("[:!]", place.strip("{}"), maxsplit=1)[0] for place in PLACE.findall(key)}
    if not names <= stored["facts"].keys() or not all(name.isidentifier() for name in names):
        return False
    facts = [fact for fact in stored["facts"].values() if isinstance(fact, Mapping) and "key" in fact]
    return all(_is_known(fact) for fact in facts)
