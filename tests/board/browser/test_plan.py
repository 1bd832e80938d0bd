"""The third screen: the plan follows what is typed, a button applies a remedy and takes it back, words are copied."""

from __future__ import annotations

import pytest
from tests.board.browser.conftest import OpenPage
from tests.board.browser.contrast import assert_readable_everywhere
from tests.board.browser.drafts import SMALL, open_with_draft, read_draft, wait_for_plan
from tests.board.browser.watched_page import measure_load

pytestmark = pytest.mark.browser


def test_plan_follows_what_is_typed(open_page: OpenPage) -> None:
    watched = open_with_draft(open_page, "plan")
    page = watched.page
    wait_for_plan(page)
    steps = page.locator(".numbers-row dd").first
    before = steps.inner_text()
    # every letter is a new draft; only the newest answer may stay
    page.locator("#quick-trainer\\.max_steps").press_sequentially("12", delay=20)
    page.locator(".numbers-row dd", has_text="12").first.wait_for()
    assert steps.inner_text() != before
    assert "trainer.max_steps=12" in page.locator(".command-text").inner_text()
    wait_for_plan(page, "trainer.max_steps=12")
    assert steps.inner_text().startswith("12")
    watched.assert_clean()


def test_warm_plan_is_quick(open_page: OpenPage) -> None:
    watched = open_with_draft(open_page, "plan")
    page = watched.page
    wait_for_plan(page)
    page.locator("#quick-optim\\.lr").fill("1e-3")
    wait_for_plan(page)
    milliseconds = page.evaluate(
        """async () => {
          const field = document.getElementById('quick-optim.lr');
          const begin = performance.now();
          field.value = '7e-4';
          field.dispatchEvent(new Event('input', {bubbles: true}));
          const text = document.querySelector('.command-text');
          while (!text.textContent.includes('7e-4')) await new Promise((go) => setTimeout(go, 5));
          return performance.now() - begin;
        }"""
    )
    assert milliseconds < 1000 * measure_load(), "500 ms are usual"


def test_button_applies_a_remedy_and_takes_it_back(open_page: OpenPage) -> None:
    watched = open_with_draft(open_page, "plan", SMALL, {"optim.lr": "5e-5"})
    page = watched.page
    wait_for_plan(page)
    finding = page.locator(".finding", has_text="optim.lr=5e-05")
    finding.locator(".apply").first.click()
    finding.wait_for(state="detached")
    assert float(read_draft(page)["values"].get("optim.lr", "1")) > 5e-5
    page.locator(".applied button").click()
    finding.wait_for()
    assert read_draft(page)["values"]["optim.lr"] == "5e-5"
    watched.assert_clean()


def test_drawings_have_their_numbers_in_words(open_page: OpenPage) -> None:
    watched = open_with_draft(open_page, "plan")
    page = watched.page
    wait_for_plan(page)
    names = [node.get_attribute("aria-label") or "" for node in page.locator("main svg[role=img]").all()]
    assert len(names) >= 3
    assert all(any(letter.isdigit() for letter in name) for name in names), names
    page.get_by_text("The numbers").click()
    assert page.locator("table.numbers tbody tr").count() >= 5


def test_command_and_yaml_are_copied(open_page: OpenPage) -> None:
    watched = open_with_draft(open_page, "plan", SMALL, {"optim.lr": "3e-4"})
    page = watched.page
    wait_for_plan(page)
    page.get_by_role("button", name="Copy the command line").first.click()
    assert page.evaluate("navigator.clipboard.readText()") == "fulgurite train model=tiny optim.lr=3e-4"
    page.get_by_role("button", name="Copy the YAML").click()
    assert "lr: 0.0003" in page.evaluate("navigator.clipboard.readText()")


def test_fits_every_screen_with_readable_colours(open_page: OpenPage) -> None:
    watched = open_with_draft(open_page, "plan", SMALL, {"optim.lr": "5e-5"}, lang="zh")
    page = watched.page
    wait_for_plan(page)
    assert_readable_everywhere(watched)
