"""Drafts that a test puts into the browser before the page reads them."""

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
    open_page: OpenPage, place: str, choices: Mapping[str, str] = SMALL, values: Mapping[str, str] | None = None,
    **how: Any,
) -> WatchedPage:
    """Opens a screen in a new tab that already holds a draft.

    The guide's screen comes first: it asks for no plan, and the plan of the bundled model would keep the worker busy.
    """
    watched = open_page("learn", **how)
    set_draft(watched, place, choices, values)
    return watched


def set_draft(
    watched: WatchedPage, place: str, choices: Mapping[str, str] = SMALL, values: Mapping[str, str] | None = None
) -> Page:
    """Loads the page again with a draft."""
    draft = {"choices": dict(choices), "values": dict(values or {}), "adds": {}}
    page = watched.page
    page.evaluate("(text) => sessionStorage.setItem('fulgurite.draft', text)", json.dumps(draft))
    # no event: the screen that is open does not move, and asks for nothing
    page.evaluate("(place) => history.replaceState(null, '', `#/${place}`)", place)
    page.reload()
    page.locator("#main h1").wait_for()
    return page


def read_draft(page: Page) -> dict[str, dict[str, str]]:
    """Returns the draft that the tab holds."""
    text = page.evaluate("sessionStorage.getItem('fulgurite.draft')")
    found: dict[str, dict[str, str]] = json.loads(text or '{"choices": {}, "values": {}, "adds": {}}')
    return found


def wait_for_plan(page: Page) -> None:
    """Waits until the plan of the newest draft is on the screen."""
    page.locator(".command-text:not(.stale)", has_text="fulgurite train").wait_for(timeout=60_000)
