"""Drafts that a test puts into the browser before the page reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tests.board.browser.watched_page import WatchedPage

if TYPE_CHECKING:
    from playwright.sync_api import Page

SMALL = {"model": "tiny"}
"""A model that is built in a moment."""


def set_draft(
    watched: WatchedPage, place: str, choices: Mapping[str, str] = SMALL, values: Mapping[str, str] | None = None
) -> Page:
    """Opens a screen with a draft, as a reload would."""
    draft = {"choices": dict(choices), "values": dict(values or {}), "adds": {}}
    watched.page.evaluate("(text) => sessionStorage.setItem('fulgurite.draft', text)", json.dumps(draft))
    watched.page.evaluate("(place) => { location.hash = `#/${place}`; }", place)
    watched.page.reload()
    watched.page.locator("#main h1").wait_for()
    return watched.page


def read_draft(page: Page) -> dict[str, dict[str, str]]:
    """Returns the draft that the tab holds."""
    text = page.evaluate("sessionStorage.getItem('fulgurite.draft')")
    found: dict[str, dict[str, str]] = json.loads(text or '{"choices": {}, "values": {}, "adds": {}}')
    return found


def wait_for_plan(page: Page) -> None:
    """Waits until the plan of the newest draft is on the screen."""
    page.locator(".command-text:not(.stale)", has_text="fulgurite train").wait_for(timeout=60_000)
