"""The list of runs: differences, curves over each other, searches, configurations as a draft."""

from __future__ import annotations

import pytest
from tests.board.browser.board_process import BoardProcess
from tests.board.browser.conftest import OpenPage
from tests.board.browser.run_folders import HOSTILE

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def board(shelf: BoardProcess) -> BoardProcess:
    """The board that shows runs."""
    return shelf


def test_list_shows_every_run_and_can_be_filtered(open_page: OpenPage) -> None:
    watched = open_page("runs")
    page = watched.page
    count = len(watched.ask("/api/runs")["runs"])
    assert page.locator(".run-table tbody tr").count() == count > 8
    page.get_by_label("Filter by name, folder, state or choice").fill("two")
    watched.wait_for_script("document.querySelectorAll('.run-table tbody tr').length === 1")
    assert f"1 of {count} runs" in page.locator("main").inner_text()
    watched.assert_clean()


def test_chosen_runs_are_drawn_over_each_other(open_page: OpenPage) -> None:
    watched = open_page("runs")
    page = watched.page
    page.get_by_label("Compare one").check()
    page.get_by_label("Compare two").check()
    chart = page.locator("section", has=page.get_by_role("heading", name="Chosen runs compared"))
    watched.wait_until(lambda: chart.locator("path[data-series]").count() == 2, what="two curves")
    chart.get_by_label("Curve").select_option("val/loss")
    watched.wait_until(lambda: chart.locator("path[data-series]").count() == 2, what="two curves")
    table = page.get_by_role("region", name="Parameters in which they differ").last
    assert "optim.lr" in table.inner_text()
    assert "method.rank" not in table.inner_text()
    assert "1e-4" in table.inner_text()
    page.reload()
    watched.wait_for_script("document.querySelectorAll('.run-table input:checked').length === 2")
    watched.assert_clean()


def test_search_shows_trials_the_best_and_importance(open_page: OpenPage) -> None:
    watched = open_page("runs")
    page = watched.page
    search = page.locator(".sweep")
    assert search.locator("tbody tr").count() == 5
    best = search.locator("tr.is-best")
    assert "1.400" in best.inner_text()
    assert "best" in best.inner_text()
    search.locator(".importance-row").first.wait_for(timeout=90_000)  # a process computes it, with optuna
    assert "optim.lr" in search.locator(".importance").inner_text()
    best.get_by_role("link").click()
    page.locator(".run-head").wait_for()
    watched.assert_clean()


def test_configuration_of_a_run_becomes_the_draft(open_page: OpenPage) -> None:
    watched = open_page("runs")
    page = watched.page
    page.get_by_role("button", name="Open the configuration of two").click()
    page.wait_for_url("**/#/parameters")
    draft = page.evaluate("JSON.parse(sessionStorage.getItem('fulgurite.draft'))")
    assert float(draft["values"]["optim.lr"]) == 2e-4


def test_names_stay_text(open_page: OpenPage) -> None:
    watched = open_page("runs")
    assert watched.page.locator(".run-table").get_by_role("link", name=HOSTILE).count() == 1
    assert watched.page.evaluate("window.__hacked") is None
    watched.assert_clean()


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_no_width_scrolls_sideways(open_page: OpenPage, lang: str) -> None:
    watched = open_page("runs", lang=lang)
    watched.page.locator(".run-table").wait_for()
    for width in (360, 768, 1280):
        watched.resize(width)
        watched.assert_clean()
