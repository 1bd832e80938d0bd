"""The screen of one run: its curves, numbers, findings, samples, states and what can be done with it."""

from __future__ import annotations

import pytest
from tests.board.browser.board_process import BoardProcess
from tests.board.browser.conftest import OpenPage
from tests.board.browser.run_folders import HOSTILE
from tests.board.browser.watched_page import WatchedPage, measure_load

pytestmark = pytest.mark.browser

STATES = {
    "finished": "已完成", "stopped": "已停止", "failed": "失败", "diverged": "已发散", "died": "已中断",
}

@pytest.fixture(scope="module")
def board(shelf: BoardProcess) -> BoardProcess:
    """The board that shows runs."""
    return shelf


def find_id(watched: WatchedPage, folder: str) -> str:
    """Returns the id of a run by its folder."""
    return next(run["id"] for run in watched.ask("/api/runs")["runs"] if run["folder"].split("/")[-1] == folder)


def open_run(open_page: OpenPage, folder: str, **settings: object) -> WatchedPage:
    watched = open_page("runs", **settings)
    watched.go(f"run/{find_id(watched, folder)}")
    watched.page.locator(".run-head h1").wait_for()
    return watched


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_each_state_has_its_word_and_its_picture(open_page: OpenPage, lang: str) -> None:
    watched = open_page("runs", lang=lang)
    pictures = set()
    for state, chinese in STATES.items():
        row = watched.page.locator(f'.run-table tbody tr:has(a:text-is("{state}"))')
        shown = row.locator(".state")
        assert shown.inner_text().strip() == (chinese if lang == "zh" else state)
        pictures.add(shown.locator("path").get_attribute("d"))
    assert len(pictures) == len(STATES)
    watched.assert_clean()


def test_curves_have_raw_smoothed_and_validation(open_page: OpenPage) -> None:
    watched = open_run(open_page, "full")
    chart = watched.page.locator(".chart").first
    for series in ("train/loss", "smoothed", "val/loss"):
        path = chart.locator(f'path[data-series="{series}"]').get_attribute("d")
        assert path is not None
        assert path.count("L") > 5
    assert chart.locator(".chart-legend").inner_text().split("\n")[0] == "every step"
    assert watched.page.locator(".run-numbers").inner_text().startswith("Step\n200")
    watched.assert_clean()


def test_values_are_read_by_keys_mouse_and_touch(open_page: OpenPage) -> None:
    watched = open_run(open_page, "full")
    page = watched.page
    reader = page.locator(".chart-reader").first
    reader.focus()
    page.keyboard.press("Home")
    assert reader.get_attribute("aria-valuenow") == "1"
    page.keyboard.press("ArrowRight")
    text = reader.get_attribute("aria-valuetext") or ""
    assert text.startswith("Step 2, every step ")
    box = reader.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20)
    watched.wait_for_script("() => Math.abs(document.querySelector('.chart-reader').ariaValueNow - 100) < 3")
    page.keyboard.press("Escape")
    assert page.locator(".chart-cross").count() == 0


def test_findings_are_pinned_and_speak_on_focus(open_page: OpenPage) -> None:
    watched = open_run(open_page, "full")
    marker = watched.page.get_by_role("button", name="Step 50, warning: Many steps were clipped.")
    marker.focus()
    tip = watched.page.locator(".marker-tip")
    assert "Many steps were clipped." in tip.inner_text()
    watched.page.keyboard.press("Escape")
    assert tip.count() == 0
    assert watched.page.locator(".run-finding").count() == 2


def test_log_scale_and_table_are_there(open_page: OpenPage) -> None:
    watched = open_run(open_page, "full")
    page = watched.page
    before = page.locator('path[data-series="smoothed"]').get_attribute("d")
    page.get_by_label("Log scale").check()
    watched.wait_until(lambda: page.locator('path[data-series="smoothed"]').get_attribute("d") != before)
    page.locator(".chart-values summary").first.click()
    table = page.locator(".chart-values table").first
    table.locator("tbody tr").nth(59).wait_for()
    assert table.locator("tbody tr").count() == 60
    assert table.locator("thead").inner_text().split("\t")[:2] == ["Step", "every step"]


def test_samples_are_side_by_side_and_only_text(open_page: OpenPage) -> None:
    watched = open_run(open_page, "full")
    page = watched.page
    first, second = page.locator(".sample").all()
    assert first.locator(".sample-answer").count() == 3
    assert "Only spaces and line breaks (40 characters)" in first.inner_text()
    assert second.locator(".sample-prompt").inner_text() == HOSTILE
    assert second.locator(".sample-text").last.inner_text() == HOSTILE
    boxes = [answer.bounding_box() for answer in first.locator(".sample-answer").all()]
    assert len({box["y"] for box in boxes if box is not None}) == 1
    assert page.evaluate("window.__hacked") is None
    watched.assert_clean()


def test_a_failed_run_shows_its_diagnosis(open_page: OpenPage) -> None:
    watched = open_run(open_page, "failed")
    notice = watched.page.locator(".notice.error")
    assert "This run failed." in notice.inner_text()
    assert "the file is empty" in notice.inner_text()
    notice.get_by_role("link", name="Change the parameters").click()
    watched.page.wait_for_url("**/#/parameters")


def test_names_and_reasons_stay_text(open_page: OpenPage) -> None:
    watched = open_run(open_page, "hostile")
    assert watched.page.locator(".run-head h1").inner_text() == HOSTILE
    assert HOSTILE in watched.page.locator(".diagnosis").inner_text()
    assert watched.page.evaluate("window.__hacked") is None
    watched.assert_clean()


def test_a_long_run_is_thinned_out_and_smooth(open_page: OpenPage) -> None:
    watched = open_run(open_page, "long")
    page = watched.page
    path = page.locator('path[data-series="train/loss"]').get_attribute("d") or ""
    assert 300 < path.count("L") < 2000
    slowest = page.evaluate("""async () => {
      const reader = document.querySelector('.chart-reader');
      const {left, width, top} = reader.getBoundingClientRect();
      const times = [];
      for (let n = 0; n < 30; n += 1) {
        reader.dispatchEvent(new PointerEvent('pointermove', {clientX: left + (n / 30) * width, clientY: top + 5}));
        const begin = performance.now();
        await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
        times.push(performance.now() - begin);
      }
      return times.sort((a, b) => a - b)[Math.floor(times.length / 2)];
    }""")
    assert slowest < 100 * measure_load()
    watched.assert_clean()


def test_a_missing_run_is_one_sentence(open_page: OpenPage) -> None:
    watched = open_page("run/0123456789abcdef")
    assert "no such run" in watched.page.locator(".notice.error").inner_text()
    watched.page.get_by_role("link", name="All runs").click()
    watched.page.locator(".run-table").wait_for()


def test_narrow_screens_do_not_scroll_sideways(open_page: OpenPage) -> None:
    watched = open_run(open_page, "full")
    watched.page.locator(".sample").first.wait_for()
    for width in (360, 768):
        watched.resize(width)
        watched.assert_clean()
