"""Texts of the page: start."""

from __future__ import annotations

from fulgurite.language.message import UserMessage, message

TEXTS: dict[str, UserMessage] = {
    "title": message("Start"),
}
