"""Whether a run's adapter can be exported apart from its base. No torch: `plan` asks it too."""

from __future__ import annotations

from fulgurite.method.config import Method


def base_changed(method: Method, added_tokens: bool) -> str | None:
    """Why the adapter of a run cannot be exported without its base, as the end of a sentence; None if it can."""
    changed = "trains weights of the model itself" if not method.adapter else ""
    changed = method.base_change() or changed
    if added_tokens:
        changed = "added tokens, for which a plain base has no room"
    return changed or None
