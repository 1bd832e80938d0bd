"""Whether a run's adapter can be exported apart from its base. No torch: `plan` asks it too."""

from __future__ import annotations

from fulgurite.language.message import UserMessage, message
from fulgurite.method.config import Method


def describe_base_change(method: Method, added_tokens: bool) -> UserMessage | None:
    """Why the adapter of a run cannot be exported without its base, as the end of a sentence; None if it can."""
    if added_tokens:
        return message("added tokens, for which a plain base has no room")
    own = message("trains weights of the model itself") if not method.adapter else None
    return method.base_change() or own
