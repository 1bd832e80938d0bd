"""The screen of the guide: its chapters lead to places that the guide has."""

from __future__ import annotations

import pytest
from tests.board.browser.board_process import BoardProcess
from tests.board.browser.conftest import OpenPage


@pytest.fixture(scope="module")
def board(shelf: BoardProcess) -> BoardProcess:
    """The board that shows runs; these tests need no plan."""
    return shelf


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_chapters_lead_into_the_guide(open_page: OpenPage, lang: str) -> None:
    watched = open_page("learn", lang=lang)
    page = watched.page
    links = page.locator(".chapter a")
    addresses = [link.get_attribute("href") or "" for link in links.all()]
    assert len(addresses) == 8
    watched.assert_clean()
    page.goto(watched.origin + addresses[0])
    missing = page.evaluate(
        "(names) => names.filter((name) => !document.getElementById(name))",
        [address.partition("#")[2] for address in addresses],
    )
    assert missing == []
    assert page.locator("html").get_attribute("lang") == lang
    assert watched.list_foreign() == []
    assert watched.errors == []


def test_guide_opens_at_the_chapter_in_a_tab_of_its_own(open_page: OpenPage) -> None:
    watched = open_page("learn")
    with watched.page.expect_popup() as found:
        watched.page.get_by_role("link", name="Diagnose").click()
    guide = found.value
    guide.wait_for_load_state()
    assert guide.url.endswith("/guide?lang=en#diagnose")
    assert guide.locator("#diagnose h2").is_visible()
