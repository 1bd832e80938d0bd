"""Texts of the page: run."""

from __future__ import annotations

from fulgurite.language.message import UserMessage, message

TEXTS: dict[str, UserMessage] = {
    "title": message("This run"),
}
