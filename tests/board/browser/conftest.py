"""One server and one browser per module; a page of its own for each test.

The real server runs as a process on a free port, in a temporary folder and with a cache of its own. Chromium is the
system's: playwright's own browsers are not downloaded.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.board.browser.board_process import BoardProcess
from tests.board.browser.watched_page import WatchedPage

if TYPE_CHECKING:
    from playwright.sync_api import Browser, StorageState

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FIRST_VISIT = """
if (!localStorage.getItem('fulgurite.lang')) {
  localStorage.setItem('fulgurite.lang', '%s');
  localStorage.setItem('fulgurite.theme', '%s');
}
"""
OpenPage = Callable[..., WatchedPage]


def find_chromium() -> str | None:
    """Returns the path of the system's Chromium; None if there is none."""
    return next((path for path in map(shutil.which, NAMES) if path is not None), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = find_chromium()
    if path is None:
        pytest.skip(f"There is no Chromium: none of {', '.join(NAMES)} is on the PATH")
    with playwright.sync_playwright() as driver:
        try:
            found = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        except playwright.Error as error:
            pytest.skip(f"Chromium does not start: {error.message.splitlines()[0]}")
        yield found
        found.close()


@pytest.fixture(scope="module")
def fill_board() -> Callable[[BoardProcess], None]:
    """What a module puts into the folder of its board before the server starts: a module overrides it."""
    return lambda board: None


@pytest.fixture(scope="module")
def board(
    tmp_path_factory: pytest.TempPathFactory, fill_board: Callable[[BoardProcess], None], browser: Browser
) -> Iterator[BoardProcess]:
    """A running board. (It asks for the browser first: without one nothing is started.)"""
    folder = tmp_path_factory.mktemp("board")
    board = BoardProcess(folder / "work", folder / "cache")
    board.runs.mkdir(parents=True)
    fill_board(board)
    yield board.start()
    board.stop()


@pytest.fixture(scope="module")
def login(board: BoardProcess, browser: Browser) -> StorageState:
    """The cookie for the printed address, whose token can be used once."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(board.address)
    assert "token" not in page.url
    state = context.storage_state()
    context.close()
    return state


@pytest.fixture
def open_page(board: BoardProcess, browser: Browser, login: StorageState) -> Iterator[OpenPage]:
    """Opens a tab: `open_page("runs", lang="zh", theme="dark", width=360)`. The tabs of a test are closed at its end.

    The tabs of one call of the fixture do not share storage, as those of two browsers; `beside` opens one that does.
    """
    contexts: list[Any] = []

    def open_one(
        place: str = "start", *, lang: str = "en", theme: str = "", width: int = 1280, height: int = 900,
        beside: WatchedPage | None = None,
    ) -> WatchedPage:
        if beside is not None:
            context = beside.page.context
        else:
            context = browser.new_context(
                storage_state=login, viewport={"width": width, "height": height}, locale="en-GB",
                reduced_motion="reduce", permissions=["clipboard-read", "clipboard-write"],
            )
            context.set_default_timeout(15_000)
            context.add_init_script(FIRST_VISIT % (lang, theme))
            contexts.append(context)
        watched = WatchedPage.watch(context.new_page(), board.origin)
        watched.open(place)
        return watched

    yield open_one
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def example_data() -> Path:
    """The examples of the repository."""
    return Path(__file__).resolve().parents[3] / "examples"
