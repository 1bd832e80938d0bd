"""Pages of other origins in the same browser, which has the cookie of the board: none of them reaches a route.

A page of another port is the worst: for a browser it is of the same site, so that SameSite=Strict sends the cookie.
A foreign name that means this machine is DNS rebinding; the browser resolves every name to it here.
"""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.board.browser.board_process import BoardProcess
from tests.board.browser.conftest import find_chromium

ATTACKS = """async (board) => {
  const found = {};
  const attempt = async (name, act) => {
    try { found[name] = String(await act()); } catch (error) { found[name] = `blocked: ${error.name}`; }
  };
  const settle = (node, good = 'onload') => new Promise((done) => {
    node[good] = () => done('loaded'); node.onerror = () => done('blocked'); setTimeout(() => done('nothing'), 2000);
  });
  const add = (name, fields) => document.body.appendChild(Object.assign(document.createElement(name), fields));
  const body = JSON.stringify({draft: {choices: {}, values: {}, adds: {}}});
  const include = {credentials: 'include'};
  await attempt('get', () => fetch(`${board}/api/texts`, include).then((answer) => answer.text()));
  await attempt('get opaque', () => fetch(`${board}/api/texts`, {...include, mode: 'no-cors'}).then((a) => a.type));
  await attempt('json', () => fetch(`${board}/api/runs`, {...include, method: 'POST', body,
    headers: {'content-type': 'application/json'}}).then((answer) => answer.text()));
  await attempt('text', () => fetch(`${board}/api/runs`, {...include, method: 'POST', mode: 'no-cors', body,
    headers: {'content-type': 'text/plain'}}).then((answer) => answer.type));
  await attempt('delete', () => fetch(`${board}/api/runs`, {...include, method: 'DELETE'}));
  await attempt('beacon', () => navigator.sendBeacon(`${board}/api/runs`, body));
  await attempt('image', () => settle(add('img', {src: `${board}/assets/icon.svg`})));
  await attempt('script', () => settle(add('script', {src: `${board}/assets/app/main.js`, type: 'module'})));
  await attempt('plain script', () => settle(add('script', {src: `${board}/api/texts`})));
  await attempt('style', () => settle(add('link', {rel: 'stylesheet', href: `${board}/assets/board.css`})));
  await attempt('events', () => settle(new EventSource(`${board}/api/events`, {withCredentials: true}), 'onopen'));
  await attempt('socket', () => settle(new WebSocket(`${board.replace('http', 'ws')}/api/events`), 'onopen'));
  const frame = add('iframe', {name: 'frame', src: `${board}/`});
  await settle(frame);
  await attempt('frame', () => frame.contentDocument?.body.innerText ?? 'blocked: another origin');
  const form = add('form', {action: `${board}/api/runs`, method: 'post', enctype: 'text/plain', target: 'frame'});
  form.append(Object.assign(document.createElement('input'), {name: body, value: ''}));
  form.submit();
  await settle(frame);
  return found;
}"""


class QuietHandler(http.server.BaseHTTPRequestHandler):
    """Answers everything with an empty page."""

    def do_GET(self) -> None:
        """Answers."""
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>other</title><body></body>")

    def log_message(self, format: str, *args: object) -> None:
        """Prints nothing."""


@pytest.fixture(scope="module")
def board(shelf: BoardProcess) -> BoardProcess:
    """The board that shows runs."""
    return shelf


@pytest.fixture(scope="module")
def other_port() -> Iterator[int]:
    """Serves a page of another origin on this machine; returns its port."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), QuietHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.fixture(scope="module")
def context(board: BoardProcess, browser: Any, login: Any) -> Iterator[Any]:
    """A browser for which every name is this machine, and which has the cookie of the board."""
    args = ["--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * 127.0.0.1"]
    found = browser.browser_type.launch(executable_path=find_chromium(), args=args)
    context = found.new_context(storage_state=login)
    yield context
    found.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "evil.example"])
def test_page_of_another_origin_reaches_nothing(board: BoardProcess, context: Any, other_port: int, host: str) -> None:
    before = sorted(board.runs.iterdir())
    page = context.new_page()
    answers: list[tuple[str, str, int]] = []
    page.on("response", lambda answer: answers.append((answer.request.method, answer.url, answer.status)))
    page.goto(f"http://{host}:{other_port}/")
    found = page.evaluate(ATTACKS, board.origin)
    with contextlib.suppress(Exception):
        page.wait_for_load_state("networkidle", timeout=3000)
    read = {name: value for name, value in found.items() if not value.startswith("blocked")}
    # an opaque answer cannot be read; a beacon reports only that it was sent
    assert read.keys() <= {"get opaque", "text", "beacon"}
    reached = [answer for answer in answers if answer[1].startswith(board.origin)]
    assert reached
    assert {status for _, _, status in reached} <= {400, 403, 405}
    assert sorted(board.runs.iterdir()) == before
    page.close()


def test_name_that_was_rebound_to_this_machine_is_refused(board: BoardProcess, context: Any) -> None:
    page = context.new_page()
    answer = page.goto(f"http://evil.example:{board.port}/")
    assert answer.status == 403
    statuses = page.evaluate("""async () => Promise.all([
      fetch('/api/texts'),
      fetch('/api/runs', {method: 'POST', body: '{}', headers: {'content-type': 'application/json'}}),
    ]).then((answers) => answers.map((answer) => answer.status))""")
    assert statuses == [403, 403]
    page.close()


def test_link_on_another_page_opens_the_board(board: BoardProcess, context: Any, other_port: int) -> None:
    page = context.new_page()
    page.goto(f"http://evil.example:{other_port}/")
    page.evaluate("(board) => { location.href = board; }", f"{board.origin}/")
    page.locator("#app > *").first.wait_for()
    assert page.evaluate("window.opener") is None
    page.close()


def test_browser_without_a_cookie_is_shown_how_to_open_the_board(board: BoardProcess, context: Any) -> None:
    fresh = context.browser.new_context(locale="zh-CN")
    page = fresh.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    assert page.goto(f"{board.origin}/").status == 401
    assert "终端" in page.locator("main").inner_text()
    assert problems == []
    fresh.close()
    assert Path(board.folder, "board.log").read_text(encoding="utf-8").count("?token=") >= 1
