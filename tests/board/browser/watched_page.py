"""A page of the browser together with everything that went wrong on it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from playwright.sync_api import ConsoleMessage, Page, Request

WATCH_CSP = """
window.__violations = [];
document.addEventListener('securitypolicyviolation', (event) =>
  window.__violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`));
"""
LOST = ("ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_EMPTY_RESPONSE")
"""What Chromium prints when the server is gone."""
TWO_FRAMES = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
WIDEST = """() => {
  const wide = innerWidth;
  if (document.documentElement.scrollWidth <= wide) return '';
  const over = [...document.querySelectorAll('main *, header *')].filter((node) =>
    node.getBoundingClientRect().right > wide + 0.5 && getComputedStyle(node).position !== 'fixed');
  const named = over.slice(0, 3).map((node) => `${node.tagName.toLowerCase()}.${node.getAttribute('class') ?? ''}`);
  return `${document.documentElement.scrollWidth} > ${wide}: ${named.join(', ')}`;
}"""


@dataclass
class WatchedPage:
    """A page, and what it asked for and complained about."""

    page: Page
    origin: str
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @classmethod
    def watch(cls, page: Page, origin: str) -> WatchedPage:
        """Begins to record; call it before the page is opened."""
        watched = cls(page, origin)
        page.add_init_script(WATCH_CSP)
        page.on("request", watched._note_request)
        page.on("console", watched._note_console)
        page.on("pageerror", lambda error: watched.errors.append(f"exception: {error}"))
        return watched

    def _note_request(self, request: Request) -> None:
        self.requests.append(request.url)

    def _note_console(self, entry: ConsoleMessage) -> None:
        if entry.type == "error":
            self.errors.append(f"{entry.text} {entry.location.get('url', '')}")

    def open(self, place: str = "") -> Page:
        """Opens a screen, such as `runs` or `run/ID`, and waits until the page has its texts."""
        self.page.goto(f"{self.origin}/#/{place}")
        self.page.locator("#main h1, #main .notice").first.wait_for()
        return self.page

    def go(self, place: str) -> Page:
        """Goes to another screen without loading the page again."""
        self.page.evaluate("(place) => { location.hash = `#/${place}`; }", place)
        return self.page

    def resize(self, width: int, height: int = 800) -> None:
        """Gives the window another size, and waits until the page is laid out for it."""
        self.page.set_viewport_size({"width": width, "height": height})
        self.wait_for_script(f"innerWidth === {width}")
        self.page.evaluate(TWO_FRAMES)

    def list_foreign(self) -> list[str]:
        """Returns the requests that left the origin."""
        own = urlsplit(self.origin).netloc
        parts = [(url, urlsplit(url)) for url in self.requests]
        return [url for url, part in parts if part.scheme in ("http", "https") and part.netloc != own]

    def assert_clean(self, allowed: Callable[[str], bool] = lambda error: False) -> None:
        """Fails if a request left the origin, if the console has an error, if the policy for content was violated, or
        if the page scrolls sideways. `allowed` returns whether an error is part of the test."""
        assert self.list_foreign() == []
        assert [error for error in self.errors if not allowed(error)] == []
        assert self.page.evaluate("window.__violations") == []
        assert self.find_overflow() == ""

    def find_overflow(self) -> str:
        """Returns what makes the page scroll sideways; empty if it does not."""
        return str(self.page.evaluate(WIDEST))

    def wait_until(self, holds: Callable[[], bool], seconds: float = 20.0, what: str = "") -> None:
        """Waits until something holds. (The policy for content forbids what `page.wait_for_function` does.)"""
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, f"it did not happen: {what} {self.page.url}"
            self.page.wait_for_timeout(20)

    def wait_for_script(self, script: str) -> None:
        """Waits until an expression of JavaScript is true."""
        self.wait_until(lambda: bool(self.page.evaluate(script)))

    def ask(self, path: str) -> Any:
        """Returns an answer of the server, with the cookie of the page."""
        answer = self.page.request.get(f"{self.origin}{path}")
        assert answer.ok, answer.text()
        return answer.json()


def measure_load() -> float:
    """Returns the seconds that pass in a second of work: 1 on a quiet machine, more if others use it. Limits in seconds
    are multiplied by it."""
    begin, used = time.perf_counter(), time.process_time()
    while time.process_time() - used < 0.1:
        pass
    return max(1.0, (time.perf_counter() - begin) / 0.1)


def is_lost_connection(error: str) -> bool:
    """Returns whether the console complains about a server that is gone, which the page itself shows in a line."""
    return any(name in error for name in LOST)


def is_refused(error: str) -> bool:
    """Returns whether the console repeats an answer of the server that refuses: the browser prints each of them."""
    return "Failed to load resource" in error and " 4" in error
