"""The second screen: each row is reachable and explained, values are judged as they are typed, words are found."""

from __future__ import annotations

import re

import pytest
from tests.board.browser.conftest import OpenPage
from tests.board.browser.contrast import assert_readable_everywhere
from tests.board.browser.drafts import SMALL, open_with_draft, read_draft, wait_for_plan
from tests.board.browser.watched_page import is_refused

pytestmark = pytest.mark.browser

FIND_UNNAMED = """() => [...document.querySelectorAll('.rows .row')].filter((row) => {
  const field = row.querySelector('input, select');
  const help = (field?.getAttribute('aria-describedby') ?? '').split(' ').map((id) => document.getElementById(id));
  const named = field?.labels?.length === 1 && field.labels[0].textContent.trim();
  return !named || field.tabIndex < 0 || !help.length || help.some((node) => !node);
}).map((row) => row.id)"""


def open_sections(page: object) -> None:
    for section in ("cost", "leave"):
        page.locator(f"[aria-controls=rows-{section}]").click()  # type: ignore[attr-defined]


def test_every_row_has_a_name_a_field_and_help(open_page: OpenPage) -> None:
    watched = open_with_draft(open_page, "parameters")
    page = watched.page
    page.locator("#place-optim\\.lr").wait_for(timeout=60_000)
    open_sections(page)
    assert page.locator(".rows .row").count() > 40
    assert page.evaluate(FIND_UNNAMED) == []
    others = " ".join(page.locator(".row-names-other").all_inner_texts())
    assert "cutoff_len" in others
    assert re.search("[\u4e00-\u9fff]", others) is None, "labels of another language"
    toggles = page.locator(".row-toggle")
    assert all(toggles.nth(n).get_attribute("aria-expanded") == "false" for n in range(3))
    toggles.first.press("Enter")
    assert page.locator(".row-card .card-rows").first.is_visible()
    watched.assert_clean()


def test_reader_of_the_article_types_a_rate(open_page: OpenPage) -> None:
    """5e-5 is a quarter of what is usual with LoRA: an amber sentence, and a way back."""
    watched = open_with_draft(open_page, "parameters", lang="zh")
    page = watched.page
    field = page.get_by_label("学习率", exact=True)
    field.wait_for(timeout=60_000)
    derived = field.input_value()
    field.fill("5e-5")
    advice = page.locator("#place-optim\\.lr .row-advice.warning")
    advice.wait_for()
    assert "optim.lr=5e-05" in advice.inner_text()
    assert page.locator("#place-optim\\.lr .range-yours.warning").count() == 1
    assert page.locator("#place-optim\\.lr .chip").inner_text() == "你的值"
    assert "optim.lr=5e-5" in page.locator(".command-text").inner_text()
    page.locator("#place-optim\\.lr .row-origin button").click()
    assert "optim.lr" not in read_draft(page)["values"]
    wait_for_plan(page)
    assert field.input_value() == derived
    watched.assert_clean()


def test_refused_value_is_kept_and_explained_at_its_row(open_page: OpenPage) -> None:
    watched = open_with_draft(open_page, "parameters", SMALL, {"optim.lr": "5e-5x"})
    page = watched.page
    row = page.locator("#place-optim\\.lr")
    row.wait_for(timeout=60_000)
    assert row.locator("input").input_value() == "5e-5x", "also after a reload"
    assert row.locator("input").get_attribute("aria-invalid") == "true"
    assert "5e-5x" in row.locator(".row-advice.error").inner_text()
    assert page.locator(".command-bar .button.primary").is_disabled()
    row.locator("input").fill("5e-4")
    page.locator(".command-bar .button.primary:enabled").wait_for()
    assert row.locator(".row-advice.error").count() == 0
    watched.assert_clean(is_refused)


def test_emptied_field_stays_empty_until_it_is_left(open_page: OpenPage) -> None:
    watched = open_with_draft(open_page, "parameters", SMALL, {"trainer.epochs": "7"})
    page = watched.page
    field = page.locator("#row-trainer\\.epochs")
    field.wait_for(timeout=60_000)
    field.fill("")
    page.locator(".command-text:not(.stale)", has_not_text="epochs").wait_for()
    assert field.input_value() == ""
    field.blur()
    assert float(field.input_value()) > 0, "the derived value is back"


def test_search_knows_the_names_of_other_tools(open_page: OpenPage) -> None:
    watched = open_with_draft(open_page, "parameters")
    page = watched.page
    page.locator("#place-optim\\.lr").wait_for(timeout=60_000)
    for word in ("cutoff_len", "截断长度", "data.max_length", "--cutoff_len", "Maximum length"):
        page.locator("h1").click()
        page.keyboard.press("/")
        page.keyboard.insert_text(word)
        first = page.locator(".rows .row").first
        page.locator("#place-data\\.max_length").wait_for()
        watched.wait_until(lambda: first.get_attribute("id") == "place-data.max_length", what=word)  # noqa: B023
        page.keyboard.press("Escape")
        page.locator("#place-optim\\.lr").wait_for()


def test_search_names_parameters_of_other_options(open_page: OpenPage) -> None:
    watched = open_with_draft(open_page, "parameters")
    page = watched.page
    page.locator("#place-optim\\.lr").wait_for(timeout=60_000)
    page.get_by_role("searchbox").fill("stage.beta")
    assert "stage=dpo" in page.locator(".found-option.dimmed").first.inner_text()


def test_options_that_do_not_fit_are_dimmed_with_the_reason(open_page: OpenPage) -> None:
    watched = open_with_draft(open_page, "parameters")
    page = watched.page
    head = page.locator("[aria-controls=group-optim]")
    head.click(timeout=60_000)
    muon = page.locator("#group-optim label.choice", has=page.locator("input[value=muon]"))
    assert muon.locator("input").is_disabled()
    assert "method=full" in muon.locator(".choice-reason").inner_text()
    page.locator("#group-optim input[value=lion]").check()
    assert read_draft(page)["choices"]["optim"] == "lion"
    page.get_by_role("button", name="Undo").click()
    assert "optim" not in read_draft(page)["choices"]


def test_another_option_drops_values_that_it_does_not_have(open_page: OpenPage) -> None:
    watched = open_with_draft(open_page, "parameters", SMALL, {"method.rank": "8", "optim.lr": "1e-4"})
    page = watched.page
    page.locator("[aria-controls=group-method]").click(timeout=60_000)
    page.locator("#group-method input[value=full]").check()
    assert read_draft(page)["values"] == {"optim.lr": "1e-4"}
    wait_for_plan(page)
    page.get_by_role("button", name="Undo").click()
    assert read_draft(page)["values"] == {"method.rank": "8", "optim.lr": "1e-4"}
    watched.assert_clean()


def test_fits_every_screen_with_readable_colours(open_page: OpenPage) -> None:
    unusual = {"optim.lr": "5e-5", "trainer.keep_checkpoints": "9"}
    watched = open_with_draft(open_page, "parameters", SMALL, unusual)
    page = watched.page
    page.locator("#place-optim\\.lr .row-advice.warning").wait_for(timeout=60_000)
    open_sections(page)
    page.locator("#place-optim\\.lr .row-toggle").click()
    page.locator("[aria-controls=group-method]").click()
    assert_readable_everywhere(watched)
    page.set_viewport_size({"width": 360, "height": 740})
    small = page.locator("main button:visible, main input:visible, main select:visible").evaluate_all(
        "(nodes) => nodes.filter((node) => !['checkbox', 'radio'].includes(node.type) && "
        "node.getBoundingClientRect().height < 43.5).map((node) => node.outerHTML.slice(0, 80))"
    )
    assert small == [], "a thumb needs 44 pixels"
