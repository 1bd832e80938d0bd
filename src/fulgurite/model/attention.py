"""Chooses the implementation of attention: the requested one, or eager, which every architecture has."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def with_attention(make: Callable[[str], T], asked: str) -> tuple[T, str]:
    """Calls `make` with an implementation, and returns its result with that implementation: `asked`, or "eager" if
    transformers has no other for the model."""
    try:
        return make(asked), asked
    except (ValueError, ImportError) as error:
        if asked == "eager" or not is_unsupported(error):
            raise
    return make("eager"), "eager"


def is_unsupported(error: Exception) -> bool:
    """Returns whether transformers refused the implementation of attention, not the model."""
    text = str(error)
    return "attn_implementation" in text or "attention implementation" in text
