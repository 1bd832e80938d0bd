"""Enums whose members explain themselves: what a person chooses between, with a sentence for each value."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Self


class DescribedEnum(StrEnum):
    """A StrEnum whose members are written `name = "value", "What this value does."`."""

    meaning: str
    """What this value does, in one or two sentences."""

    def __new__(cls, value: str, meaning: str = "") -> Self:
        """Makes the member: a text, with its meaning beside it."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member


def list_meanings(kind: Any) -> dict[str, str]:
    """Returns what each value of an enum does; nothing for other types."""
    if not (isinstance(kind, type) and issubclass(kind, DescribedEnum)):
        return {}
    return {member.value: member.meaning for member in kind}
