"""Drafts that a tab holds before the page reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tests.board.browser.conftest import OpenPage
from tests.board.browser.watched_page import WatchedPage

if TYPE_CHECKING:
    from playwright.sync_api import Page

SMALL = {"model": "tiny"}
"""A model that is built in a moment."""


def open_with_draft(
    open_page: OpenPage, place: str, choices: Mapping[str, str] | None = None,
    values: Mapping[str, str] | None = None, **how: Any,
) -> WatchedPage:
    """Opens a screen in a new tab that holds a draft, of the small model if none is chosen."""
    draft = {"choices": {**SMALL, **(choices or {})}, "values": dict(values or {}), "adds": {}}
    return open_page(place, draft=json.dumps(draft), **how)


def read_draft(page: Page) -> dict[str, dict[str, str]]:
    """Returns the draft that the tab holds."""
    text = page.evaluate("sessionStorage.getItem('fulgurite.draft')")
    found: dict[str, dict[str, str]] = json.loads(text or '{"choices": {}, "values": {}, "adds": {}}')
    return found


def wait_for_plan(page: Page, word: str = "fulgurite train") -> str:
    """Waits until the plan of the newest draft is on the screen; returns its command line, which has the word."""
    shown = page.locator(".command-text:not(.stale)", has_text=word)
    shown.wait_for(timeout=60_000)
    return shown.inner_text()
