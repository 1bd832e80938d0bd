"""One browser and two servers for all modules; a page of its own for each test.

`board` makes plans and starts runs; `shelf` only shows runs that lie there, and its modules take it as their `board`.
Both are real servers: processes on a free port, in a temporary folder, with one cache, in which the model and the data
are prepared once. A module that kills its server has one of its own. Chromium is the system's: playwright's own
browsers are not downloaded.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.board.browser.board_process import BoardProcess
from tests.board.browser.filling import fill_data, fill_shelf
from tests.board.browser.watched_page import WatchedPage

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, StorageState

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FIRST_VISIT = """
if (!localStorage.getItem('fulgurite.lang')) {
  localStorage.setItem('fulgurite.lang', '%s');
  localStorage.setItem('fulgurite.theme', '%s');
}
"""
FIRST_DRAFT = """
if (!sessionStorage.getItem('fulgurite.draft')) sessionStorage.setItem('fulgurite.draft', %s);
"""
FREE_MEMORY, FIRST_PLAN_MS = 8_000_000_000, 300_000
OpenPage = Callable[..., WatchedPage]


def find_chromium() -> str | None:
    """Returns the path of the system's Chromium; None if there is none."""
    return next((path for path in map(shutil.which, NAMES) if path is not None), None)


def choose_scope(fixture_name: str, config: pytest.Config) -> str:
    """Returns how long the browser and the servers live: `make browser` (-m) keeps them for all modules.

    Among other tests they end with the module: Playwright's event loop stays the running one of its thread until then,
    so that no later test could start another.
    """
    return "session" if config.getoption("markexpr") else "module"


@pytest.fixture(scope=choose_scope)
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


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache of every server of the tests, with the bundled model if this machine has unpacked it before: a board
    that makes plans would unpack it, a minute of the processor."""
    made, models = tmp_path_factory.mktemp("cache"), Path.home() / ".cache" / "fulgurite" / "models"
    if models.is_dir():
        (made / "models").symlink_to(models)
    return made


@pytest.fixture(scope=choose_scope)
def board(tmp_path_factory: pytest.TempPathFactory, cache: Path, browser: Browser) -> Iterator[BoardProcess]:
    """A board that makes plans, on a machine with 8 GB of free memory, for two folders.

    (It asks for the browser first: without one nothing is started.)
    """
    made = BoardProcess(tmp_path_factory.mktemp("board"), cache, ("more",), free_memory=FREE_MEMORY)
    fill_data(made)
    made.start()
    # the first plan loads torch: no test waits for it
    context = sign_in(made, browser)
    body = {"draft": {"choices": {"model": "tiny"}, "values": {}, "adds": {}}}
    answer = context.request.post(
        f"{made.origin}/api/plan", data=body, headers={"origin": made.origin}, timeout=FIRST_PLAN_MS
    )
    assert answer.ok, answer.text()
    context.close()
    yield made
    made.stop()


@pytest.fixture(scope=choose_scope)
def shelf(tmp_path_factory: pytest.TempPathFactory, cache: Path, browser: Browser) -> Iterator[BoardProcess]:
    """A board that shows runs and is asked for no plan."""
    made = BoardProcess(tmp_path_factory.mktemp("shelf"), cache, ("--lazy",))
    fill_shelf(made)
    yield made.start()
    made.stop()


@pytest.fixture(scope="module")
def login(board: BoardProcess, browser: Browser) -> StorageState:
    """The cookie for the printed address, whose token can be used once."""
    if board.cookies is None:
        sign_in(board, browser).close()
    found: StorageState = board.cookies
    return found


def sign_in(board: BoardProcess, browser: Browser) -> BrowserContext:
    """Opens the printed address, keeps the cookie that it becomes, and returns the context that has it."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(board.address)
    assert "token" not in page.url
    board.cookies = context.storage_state()
    return context


@pytest.fixture
def open_page(board: BoardProcess, browser: Browser, login: StorageState) -> Iterator[OpenPage]:
    """Opens a tab: `open_page("runs", lang="zh", theme="dark", width=360)`. The tabs of a test are closed at its end.

    With `draft` the tab holds it from the beginning, so that no plan is asked for another one.

    The tabs of one call of the fixture do not share storage, as those of two browsers; `beside` opens one that does.
    """
    contexts: list[Any] = []

    def open_one(
        place: str = "start", *, lang: str = "en", theme: str = "", width: int = 1280, height: int = 900,
        beside: WatchedPage | None = None, draft: str = "",
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
        if draft:
            watched.page.add_init_script(FIRST_DRAFT % json.dumps(draft))
        watched.open(place)
        return watched

    yield open_one
    for context in contexts:
        context.close()

