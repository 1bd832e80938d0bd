"""What a page survives: a reload, the death of the server, a second tab, a run that others started, a long run."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.board.browser.board_process import BoardProcess
from tests.board.browser.conftest import OpenPage
from tests.board.browser.run_folders import grow_run, write_metrics, write_run
from tests.board.browser.watched_page import WatchedPage, is_lost_connection, measure_load

pytestmark = pytest.mark.browser

@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory, cache: Path, browser: Any) -> Iterator[BoardProcess]:
    """A board of its own, which the tests kill."""
    made = BoardProcess(tmp_path_factory.mktemp("killed"), cache, ("--lazy",))
    write_run(made.runs / "done", steps=30, name="done")
    yield made.start()
    made.stop()


@pytest.fixture(scope="module")
def training(board: BoardProcess) -> Iterator[str]:
    """A run that grows until the module ends; its folder. (A real one is followed in test_run_actions.py.)"""
    with grow_run(board.runs / "living") as folder:
        yield folder.name


def find_run(watched: WatchedPage, name: str) -> dict[str, Any]:
    return next(run for run in watched.ask("/api/runs")["runs"] if run["name"] == name)


def read_step(watched: WatchedPage) -> int:
    """Returns the last step that the chart of the loss shows."""
    return int(watched.page.locator(".chart-reader").first.get_attribute("aria-valuemax") or 0)


def read_curve(watched: WatchedPage, series: str) -> str:
    return watched.page.locator(f'path[data-series="{series}"]').first.get_attribute("d") or ""


def open_living(open_page: OpenPage, watched: WatchedPage | None = None) -> WatchedPage:
    watched = open_page("runs")
    link = watched.page.locator(".run-table").get_by_role("link", name="living")
    link.wait_for(timeout=60_000)
    link.click()
    watched.page.locator(".chart-reader").first.wait_for(timeout=60_000)
    return watched


def test_a_run_that_others_started_appears_by_itself(open_page: OpenPage, training: str) -> None:
    watched = open_living(open_page)
    assert watched.page.locator(".state").first.inner_text().strip() == "running"
    first = read_step(watched)
    watched.wait_until(lambda: read_step(watched) > first + 3)
    watched.assert_clean()


def test_reload_in_the_middle_shows_the_same_curve(open_page: OpenPage, training: str) -> None:
    watched = open_living(open_page)
    before = read_steps(watched)
    watched.page.reload()
    watched.page.locator(".chart-reader").first.wait_for()
    after = read_steps(watched)
    assert after[: len(before)] == before
    watched.assert_clean()


def read_steps(watched: WatchedPage) -> list[list[float]]:
    """Returns the curve of the newest answer that the page would draw: all points, as the server keeps few of them."""
    run = watched.page.url.rpartition("/")[2]
    series = watched.ask(f"/api/runs/{run}/metrics?points=5000")["series"]
    shown = read_step(watched)
    return [point for point in series["smoothed"] if point[0] <= shown]


def test_the_stream_goes_on_after_the_server_was_killed(
    open_page: OpenPage, board: BoardProcess, training: str
) -> None:
    watched = open_living(open_page)
    page = watched.page
    board.kill()
    page.locator(".connection").wait_for()
    assert "connection to the server is lost" in page.locator(".connection").inner_text()
    shown = read_step(watched)
    board.start()
    page.locator(".connection").wait_for(state="detached", timeout=30_000)
    watched.wait_until(lambda: read_step(watched) > shown + 3)
    last = read_step(watched)
    steps = read_table_steps(watched)
    assert steps[0] == 1
    assert steps[-1] >= last
    assert find_run(watched, "living")["live"]
    assert watched.page.locator(".connection").count() == 0
    watched.assert_clean(is_lost_connection)


def test_rows_that_were_written_while_the_server_was_dead_arrive(open_page: OpenPage, board: BoardProcess) -> None:
    watched = open_page("runs")
    folder = write_run(board.runs / "night", steps=30, name="night")
    link = watched.page.locator(".run-table").get_by_role("link", name="night")
    link.wait_for()
    link.click()
    watched.page.locator(".chart-reader").first.wait_for()
    board.kill()
    watched.page.locator(".connection").wait_for()
    write_metrics(folder / "metrics.jsonl", 25, first=31)
    board.start()
    watched.wait_until(lambda: read_step(watched) == 55, seconds=30)
    assert read_curve(watched, "train/loss").count("L") == 54
    watched.page.locator(".connection").wait_for(state="detached")
    watched.assert_clean(is_lost_connection)


def read_table_steps(watched: WatchedPage) -> list[int]:
    summary = watched.page.locator(".chart-values summary").first
    summary.click()
    rows = watched.page.locator(".chart-values tbody").first.locator("th")
    rows.first.wait_for()
    return [int(text.replace(",", "")) for text in rows.all_inner_texts()]


def test_curves_that_nobody_sees_are_drawn_when_they_are_scrolled_to(open_page: OpenPage, training: str) -> None:
    watched = open_living(open_page)
    page = watched.page
    last = page.locator(".chart").last
    page.set_viewport_size({"width": 1280, "height": 400})
    page.evaluate("window.scrollTo(0, 0)")
    first = read_step(watched)
    watched.wait_until(lambda: read_step(watched) > first, what="a drawing in the smaller window")
    held = last.locator("path[data-series]").get_attribute("d")
    first = read_step(watched)
    watched.wait_until(lambda: read_step(watched) > first + 3)
    assert last.locator("path[data-series]").get_attribute("d") == held
    last.scroll_into_view_if_needed()
    watched.wait_until(lambda: last.locator("path[data-series]").get_attribute("d") != held)
    newest = int(last.locator(".chart-reader").get_attribute("aria-valuemax") or 0)
    assert newest > first
    watched.assert_clean()


def test_two_tabs_show_the_same(open_page: OpenPage, training: str) -> None:
    one = open_living(open_page)
    two = open_page("runs", beside=one)
    two.go(one.page.url.partition("#/")[2])
    two.page.locator(".chart-reader").first.wait_for()
    one.wait_until(lambda: abs(read_step(one) - read_step(two)) <= 40)
    for watched in (one, two):
        watched.assert_clean()


def test_rows_that_are_appended_are_drawn_without_a_gap(open_page: OpenPage, board: BoardProcess) -> None:
    watched = open_page("runs")
    run = find_run(watched, "done")
    watched.go(f"run/{run['id']}")
    watched.page.locator(".chart-reader").first.wait_for()
    assert read_step(watched) == 30
    write_metrics(board.runs / "done" / "metrics.jsonl", 20, first=31)
    watched.wait_until(lambda: read_step(watched) == 50)
    assert read_curve(watched, "train/loss").count("L") == 49
    drawn = read_curve(watched, "smoothed")
    watched.page.reload()
    watched.page.locator(".chart-reader").first.wait_for()
    assert read_curve(watched, "smoothed") == drawn
    watched.assert_clean()


def test_a_resumed_run_that_rewrites_its_rows_is_drawn_anew(open_page: OpenPage, board: BoardProcess) -> None:
    watched = open_page("runs")
    folder = write_run(board.runs / "rewound", steps=40, name="rewound")
    link = watched.page.locator(".run-table").get_by_role("link", name="rewound")
    link.wait_for()
    link.click()
    watched.page.locator(".chart-reader").first.wait_for()
    rewind(folder, 25)
    watched.wait_until(lambda: read_step(watched) == 25)
    watched.assert_clean()


def rewind(folder: Path, step: int) -> None:
    """Keeps the rows up to a step, in a new file, as a resumed run does."""
    path = folder / "metrics.jsonl"
    kept = [line for line in path.read_text(encoding="utf-8").splitlines() if f'"step": {step + 1},' not in line]
    rows = [line for line in kept if int(line.split('"step": ')[1].split(",")[0]) <= step]
    new = path.with_suffix(".new")
    new.write_text("\n".join(rows) + "\n", encoding="utf-8")
    os.replace(new, path)


def test_a_growing_run_of_many_rows_stays_smooth(open_page: OpenPage, board: BoardProcess) -> None:
    folder = write_run(board.runs / "long", steps=10, name="long", metrics=False)
    write_metrics(folder / "metrics.jsonl", 100_000)
    watched = open_page("runs")
    run = find_run(watched, "long")
    begin = time.monotonic()
    watched.go(f"run/{run['id']}")
    watched.page.locator(".chart-reader").first.wait_for()
    assert time.monotonic() - begin < 6 * measure_load()
    write_metrics(folder / "metrics.jsonl", 200, first=100_001)
    watched.wait_until(lambda: read_step(watched) == 100_200)
    assert read_curve(watched, "train/loss").count("L") < 2000
    watched.assert_clean()
