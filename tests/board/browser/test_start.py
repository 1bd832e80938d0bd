"""The first screen: data of one's own are read and shown, a mistake is one sentence and one button, a run starts."""

from __future__ import annotations

import re

import pytest
from tests.board.browser.conftest import OpenPage
from tests.board.browser.contrast import assert_readable_everywhere
from tests.board.browser.drafts import SMALL, open_with_draft, read_draft, wait_for_plan
from tests.board.browser.watched_page import WatchedPage, is_refused, measure_load

pytestmark = pytest.mark.browser


def open_own_data(open_page: OpenPage, path: str, lang: str = "en") -> WatchedPage:
    watched = open_with_draft(open_page, "start", lang=lang)
    page = watched.page
    page.locator("input[name=data][value=file]").check()
    page.get_by_label(re.compile("data.path")).fill(path)
    return watched


def test_first_paint_takes_less_than_a_second(open_page: OpenPage) -> None:
    watched = open_with_draft(open_page, "start")
    paint = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
    assert 0 < watched.page.evaluate(paint) < 1000 * measure_load()
    watched.assert_clean()


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_own_data_are_read_and_shown_as_text(open_page: OpenPage, lang: str) -> None:
    watched = open_own_data(open_page, "runs/mine.jsonl", lang)
    page = watched.page
    # until the file is read, the examples are those of the shipped data
    learned = page.locator(".example-text mark.learned", has_text="The answer is").first
    learned.wait_for(timeout=60_000)
    assert "onerror" in learned.inner_text(), "markup of the data is shown as text"
    assert page.locator("main img").count() == 0
    assert page.evaluate("window.__hit") is None
    assert "30" in page.locator(".facts").first.inner_text()
    # pairs cannot be read from single answers
    assert page.locator("input[name=stage][value=dpo]").is_disabled()
    assert page.locator("input[name=stage][value=sft]").is_enabled()
    wait_for_plan(page)
    watched.assert_clean()


def test_unreadable_data_are_refused_with_the_line(open_page: OpenPage) -> None:
    watched = open_own_data(open_page, "runs/bad.jsonl")
    refused = watched.page.locator(".question .notice.error")
    refused.wait_for(timeout=60_000)
    assert "output" in refused.inner_text()
    watched.page.locator(".command-why").wait_for()
    assert watched.page.locator(".command-bar .button.primary").is_disabled()
    watched.assert_clean(is_refused)


def test_wrong_stage_is_one_sentence_and_one_button(open_page: OpenPage) -> None:
    watched = open_with_draft(open_page, "start", SMALL | {"stage": "dpo"})
    page = watched.page
    remedy = page.locator(".outcome .apply")
    remedy.wait_for(timeout=60_000)
    assert remedy.count() == 1
    remedy.click()
    page.locator(".outcome-sentence", has_text="SFT").wait_for()
    assert read_draft(page)["choices"]["stage"] == "sft"
    page.locator(".outcome .applied button").click()
    assert read_draft(page)["choices"]["stage"] == "dpo"


def test_files_are_picked_with_the_keyboard(open_page: OpenPage) -> None:
    watched = open_with_draft(open_page, "start")
    page = watched.page
    page.locator("input[name=data][value=file]").check()
    page.get_by_role("button", name="Browse").press("Enter")
    entry = page.get_by_role("dialog").get_by_role("button", name=re.compile("mine.jsonl"))
    entry.focus()
    entry.press("Enter")
    assert page.get_by_role("dialog").count() == 0
    assert read_draft(page)["values"]["data.path"].endswith("mine.jsonl")
    page.get_by_role("button", name="Browse").press("Enter")
    page.get_by_role("dialog").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="detached")
    assert page.evaluate("document.activeElement.textContent").strip() == "Browse", "the focus is back"


@pytest.mark.parametrize(
    "text", ["fulgurite train model=tiny optim.lr=3e-4", "defaults:\n- override /model: tiny\noptim:\n  lr: 3e-4\n"]
)
def test_pasted_configuration_becomes_the_draft(open_page: OpenPage, text: str) -> None:
    watched = open_with_draft(open_page, "start")
    page = watched.page
    page.get_by_role("button", name="Open a configuration").click()
    page.get_by_role("button", name="Paste").click()
    page.locator("#open-text").fill(text)
    page.get_by_role("button", name="Open", exact=True).click()
    page.get_by_role("button", name="Show the parameters").click(timeout=60_000)
    draft = read_draft(page)
    assert float(draft["values"]["optim.lr"]) == 3e-4
    watched.assert_clean()


def test_new_tab_begins_with_the_newest_draft(open_page: OpenPage) -> None:
    first = open_with_draft(open_page, "start")
    first.page.locator("input[name=data][value=guide_form]").check()
    second = open_page("start", beside=first)
    assert read_draft(second.page)["choices"].get("data", "guide_form") == "guide_form"
    second.page.locator("input[name=data][value=guide_form]:checked").wait_for()
    second.page.locator("input[name=data][value=guide]").check()
    assert read_draft(first.page)["choices"]["data"] == "guide_form", "each tab keeps its own"


def test_fits_every_screen_with_readable_colours(open_page: OpenPage) -> None:
    watched = open_with_draft(open_page, "start", lang="zh")
    page = watched.page
    wait_for_plan(page)
    page.locator(".data-summary:not(.stale)").wait_for(timeout=60_000)
    assert_readable_everywhere(watched)


def test_configuration_of_another_folder_is_opened_by_its_path(open_page: OpenPage) -> None:
    watched = open_with_draft(open_page, "start", values={"method.rank": "4"})
    page = watched.page
    page.get_by_role("button", name="Open a configuration").click()
    page.get_by_role("button", name="From a YAML file").click()
    page.get_by_role("button", name="Browse").last.click()
    roots = page.get_by_role("group", name="Folders of the board").get_by_role("button")
    roots.nth(1).wait_for()
    assert [root.get_attribute("aria-pressed") for root in roots.all()] == ["true", "false"]
    roots.nth(1).click()
    page.get_by_role("button", name=re.compile("own.yaml")).click()
    assert page.locator("#open-path").input_value().endswith("own.yaml")
    page.get_by_role("button", name="Open", exact=True).click()
    page.get_by_role("button", name="Show the parameters").click()
    assert read_draft(page) == {"choices": {"model": "tiny"}, "values": {"optim.lr": "3e-4"}, "adds": {}}
    watched.assert_clean()
