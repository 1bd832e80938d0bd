"""The gate: every hostile request is refused before a route sees it, and every answer carries the headers.

Rows of the list of attacks on local dashboards: Ray (CVE-2023-48022, CVE-2025-62593, CVE-2026-27482), MLflow
(CVE-2025-14279), Gradio (CVE-2024-1727, CVE-2024-47084 and others), LLaMA-Factory (CVE-2025-61784).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect
from tests.board.server.client import ORIGIN, PORT, make_board, make_client

from fulgurite.board.http_error import HttpError
from fulgurite.board.server.json_http import answer, read_json
from fulgurite.board.server.security import HEADERS, MOST_BYTES, limit_body
from fulgurite.board.server.session import Sessions
from fulgurite.board.server.state import Board

JSON = {"content-type": "application/json"}


@pytest.fixture
def board(tmp_path: Path) -> Board:
    """Returns a board of an empty folder."""
    return make_board(tmp_path)


@pytest.fixture
def client(board: Board) -> TestClient:
    """Returns a browser that is logged in; /effect counts the requests that reach it."""
    client = make_client(board)
    reached: list[str] = []

    async def effect(request: Request) -> Response:
        reached.append(request.method)
        return answer({"read": await read_json(request) if request.method == "POST" else None})

    route = Route("/effect", effect, methods=["GET", "POST", "DELETE", "PATCH", "PUT", "OPTIONS", "TRACE"])
    client.app.router.routes.append(route)  # type: ignore[attr-defined]
    client.reached = reached  # type: ignore[attr-defined]
    return client


def refuse(client: TestClient, response: Response, status: int) -> None:
    """Asserts that a request was refused with one sentence, before it reached the route."""
    assert response.status_code == status
    assert client.reached == []  # type: ignore[attr-defined]
    if response.content:  # type: ignore[attr-defined]
        assert set(response.json()) == {"error", "words"}  # type: ignore[attr-defined]
    check_headers(response)


def check_headers(response: Response) -> None:
    """Asserts the headers that every answer has, and those that none has."""
    for name, value in HEADERS.items():
        assert response.headers[name] == value
    assert response.headers["cache-control"] in ("no-store", "no-cache")
    assert not [name for name in response.headers if name.startswith("access-control")]
    assert "server" not in response.headers


def test_own_page_is_answered(client: TestClient) -> None:
    fetched = {"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors", "sec-fetch-dest": "empty"}
    assert client.post("/effect", json={"a": 1}, headers=fetched).json() == {"read": {"a": 1}}
    assert client.get("/effect", headers=fetched).status_code == 200
    client.headers.pop("origin")
    assert client.get("/effect").status_code == 200  # a GET of the own page has no Origin
    assert client.get("/effect", headers={"sec-fetch-site": "none"}).status_code == 200  # typed into the address bar


@pytest.mark.parametrize("host", [
    "evil.example", "evil.example:7878", f"127.0.0.1.evil.example:{PORT}", f"localhost.evil.example:{PORT}",
    f"127.0.0.1.nip.io:{PORT}", "127.0.0.1", "localhost", "127.0.0.1:80", f"127.0.0.1:{PORT + 1}", f"localhost.:{PORT}",
    f"127.0.0.1.:{PORT}", f"me@127.0.0.1:{PORT}", f"127.0.0.1:{PORT}@evil.example", f"0.0.0.0:{PORT}", f"[::]:{PORT}",
    f"127.0.0.2:{PORT}", f"127.1:{PORT}", f"2130706433:{PORT}", f"0x7f.1:{PORT}", f"[::ffff:127.0.0.1]:{PORT}",
    f"127.0.0.1:0{PORT}", f"127.0.0.1:{PORT} ", f"127.0.0.1:{PORT}, evil.example", "", f":{PORT}", f"host:{PORT}",
])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_foreign_host_is_refused(client: TestClient, host: str, method: str) -> None:
    refuse(client, client.request(method, "/effect", headers={"host": host, **JSON}, content=b"{}"), 403)
    assert client.get("/", headers={"host": host}).status_code == 403
    assert client.get("/assets/login.js", headers={"host": host}).status_code == 403


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "LocalHost", "[::1]"])
def test_names_of_this_machine_are_answered(client: TestClient, name: str) -> None:
    host = f"{name}:{PORT}"
    sent = client.post("/effect", json={}, headers={"host": host, "origin": f"http://{host.lower()}"})
    assert sent.status_code == 200


def test_two_hosts_are_refused(client: TestClient) -> None:
    headers = [("host", f"127.0.0.1:{PORT}"), ("host", "evil.example")]
    refuse(client, client.get("/effect", headers=headers), 403)  # type: ignore[arg-type]
    # what a proxy would believe
    forwarded = {"x-forwarded-host": f"127.0.0.1:{PORT}", "host": "evil.example", "x-forwarded-for": "127.0.0.1"}
    refuse(client, client.get("/effect", headers=forwarded), 403)


@pytest.mark.parametrize("origin", [
    "null", "http://evil.example", f"http://evil.example:{PORT}", f"http://127.0.0.1:{PORT + 1}", "http://127.0.0.1",
    f"https://127.0.0.1:{PORT}", f"http://localhost:{PORT}", f"http://127.0.0.1:{PORT}.evil.example",
    f"http://127.0.0.1:{PORT}/", f"{ORIGIN}, {ORIGIN}", "", "file://", "chrome-extension://abcdef", f"127.0.0.1:{PORT}",
    f"http://me@127.0.0.1:{PORT}",
])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_foreign_origin_is_refused(client: TestClient, origin: str, method: str) -> None:
    headers = {"origin": origin, **JSON}
    refuse(client, client.request(method, "/effect", headers=headers, content=b"{}" if method == "POST" else None), 403)


def test_post_without_an_origin_is_refused(client: TestClient) -> None:
    client.headers.pop("origin")
    refuse(client, client.post("/effect", json={}), 403)
    refuse(client, client.post("/effect", json={}, headers={"sec-fetch-site": "same-origin"}), 403)
    refuse(client, client.post("/effect", json={}, headers={"referer": ORIGIN}), 403)


@pytest.mark.parametrize("site", ["cross-site", "same-site", "", "SAME-ORIGIN", "unknown"])
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
def test_request_of_another_site_is_refused(client: TestClient, site: str, method: str) -> None:
    content = b"{}" if method == "POST" else None
    refuse(client, client.request(method, "/effect", headers={"sec-fetch-site": site, **JSON}, content=content), 403)
    navigates = {"sec-fetch-site": site, "sec-fetch-mode": "navigate", "sec-fetch-dest": "document", **JSON}
    refuse(client, client.request(method, "/effect", headers=navigates, content=content), 403)
    refuse(client, client.get("/", headers={"sec-fetch-site": site, "sec-fetch-dest": "iframe"}), 403)


def test_link_on_another_page_opens_the_start_page(client: TestClient) -> None:
    followed = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert client.get("/", headers=followed).status_code == 200
    framed = followed | {"sec-fetch-dest": "iframe"}
    assert client.get("/", headers=framed).status_code == 403


def test_post_that_nobody_sent_from_a_page_is_refused(client: TestClient) -> None:
    refuse(client, client.post("/effect", json={}, headers={"sec-fetch-site": "none"}), 403)


@pytest.mark.parametrize("method", ["DELETE", "PATCH", "PUT", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "X"])
def test_other_methods_are_refused(client: TestClient, method: str) -> None:
    for path in ("/effect", "/", "/api/texts", "/nothing"):
        refuse(client, client.request(method, path), 405)


def test_head_has_the_headers_and_no_body(client: TestClient) -> None:
    for path in ("/", "/assets/login.js", "/api/texts", "/api/files", "/guide"):
        answered = client.head(path)
        assert (answered.status_code, answered.content) == (200, b"")
        check_headers(answered)


@pytest.mark.parametrize("kind", [
    "", "text/plain", "text/plain;charset=UTF-8", "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x", "text/plain; application/json", "application/jsonx",
    "application/json-patch+json",
    "application/json; charset=utf-16", "application/json; charset=utf-7", "application/json, text/plain", "text/json",
    "*/*", "application/octet-stream",
])
def test_only_json_is_read(client: TestClient, kind: str) -> None:
    refuse(client, client.post("/effect", content=b'{"a": 1}', headers={"content-type": kind}), 415)


def test_compressed_body_is_refused(client: TestClient) -> None:
    refuse(client, client.post("/effect", content=b"x", headers=JSON | {"content-encoding": "gzip"}), 415)


@pytest.mark.parametrize("kind", [
    "application/json", "Application/JSON; charset=UTF-8", "application/json;charset=utf-8",
])
def test_json_is_read(client: TestClient, kind: str) -> None:
    assert client.post("/effect", content=b"{}", headers={"content-type": kind}).status_code == 200


def test_websocket_is_refused(client: TestClient) -> None:
    with pytest.raises(WebSocketDisconnect) as closed, client.websocket_connect("/effect"):
        pass
    assert closed.value.code == 1008
    upgrade = {"upgrade": "websocket", "connection": "upgrade", "sec-websocket-key": "x", "sec-websocket-version": "13"}
    refuse(client, client.get("/effect", headers=upgrade), 400)


PATHS = ["/effect", "/api/texts", "/api/files", "/guide", "/assets/index.html", "/assets/vendor/htm-preact.js", "/no"]


@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_shown_without_a_cookie(board: Board, client: TestClient, path: str) -> None:
    client.cookies.clear()
    refuse(client, client.get(path), 401)
    refuse(client, client.post(path, json={}), 401)
    # a token opens the start page, and no other
    refuse(client, client.get(path, params={"token": board.sessions.make_token()}), 401)


def make_wrong_cookies() -> dict[str, str]:
    """Returns cookies that are not of this board, by what is wrong with them."""
    mine = f"fulgurite_board_{PORT}"
    ours = Sessions(b"k" * 32, PORT)
    good = ours.make_cookie()
    end, number, signature = good.split(".")
    other_port = Sessions(b"k" * 32, PORT + 1).make_cookie()
    expired = Sessions(b"k" * 32, PORT, now=lambda: 0.0).make_cookie()
    values = {
        "empty": "", "no signature": f"{end}.{number}", "longer life": f"{int(end) + 9}.{number}.{signature}",
        "other key": Sessions(b"x" * 32, PORT).make_cookie(), "of another port": other_port, "expired": expired,
        "with a password": Sessions(b"k" * 32, PORT, "x").make_cookie(), "cut": good[:-1], "quoted": f'"{good[:-1]}"',
        "text": "admin", "true": "true", "long": "x" * 9000, "not ASCII": "é.ü.ß",
    }
    cookies = {name: f"{mine}={value}" for name, value in values.items()}
    cookies["name of another port"] = f"fulgurite_board_{PORT + 1}={good}"
    cookies["prefix"] = f"{mine}x={good}"
    cookies["letter case"] = f"{mine.upper()}={good}"
    cookies["no cookie at all"] = ";;;=;"
    return cookies


@pytest.mark.parametrize("name", list(make_wrong_cookies()))
def test_wrong_cookie_is_refused(client: TestClient, name: str) -> None:
    client.cookies.clear()
    refuse(client, client.get("/effect", headers={"cookie": make_wrong_cookies()[name].encode("latin-1")}), 401)  # type: ignore[dict-item]


def test_cookie_beside_those_of_other_ports_is_found(board: Board, client: TestClient) -> None:
    client.cookies.clear()
    cookie = f"a=b; fulgurite_board_1=x; {board.sessions.name}={board.sessions.make_cookie()}; c=d"
    assert client.get("/effect", headers={"cookie": cookie}).status_code == 200


@pytest.mark.parametrize("size", [MOST_BYTES + 1, 10 << 20, 50 << 20])
@pytest.mark.parametrize("claimed", ["length", "chunked", "lie"])
def test_large_body_is_refused_and_not_read(client: TestClient, size: int, claimed: str) -> None:
    read = 0

    def chunks() -> Iterator[bytes]:
        nonlocal read
        for _ in range(0, size, 65536):
            read += 65536
            yield b"x" * 65536

    headers = JSON | {"length": {"content-length": str(size)}, "chunked": {}, "lie": {"content-length": "2"}}[claimed]
    refused = client.post("/effect", content=chunks(), headers=headers)
    assert refused.status_code == 413
    assert refused.headers["connection"] == "close"
    check_headers(refused)


def test_body_up_to_the_limit_is_read(client: TestClient) -> None:
    text = "x" * (MOST_BYTES - len('{"a":""}'))
    assert client.post("/effect", content=f'{{"a":"{text}"}}'.encode(), headers=JSON).status_code == 200


@pytest.mark.parametrize(("headers", "status"), [
    ({"content-length": "-1"}, 400), ({"content-length": "1e3"}, 400), ({"content-length": "٣"}, 400),
    ({"content-length": "9" * 500}, 413), ({"content-length": "5, 5"}, 400), ({"content-length": ""}, 400),
])
def test_strange_lengths_are_refused(client: TestClient, headers: dict[str, str], status: int) -> None:
    sent = {name: value.encode() for name, value in (headers | JSON).items()}
    refuse(client, client.post("/effect", content=iter([b"{}"]), headers=sent), status)  # type: ignore[arg-type]


def test_get_with_a_body_is_refused(client: TestClient) -> None:
    refuse(client, client.request("GET", "/effect", content=b"{}"), 400)
    refuse(client, client.request("GET", "/effect", content=iter([b"{}"])), 400)


def test_slow_body_is_cut_off() -> None:
    async def receive() -> dict[str, object]:
        await asyncio.sleep(0.02)  # each part is in time, and the whole is not
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def read(most: int) -> None:
        limited = limit_body(receive, 0.1)  # type: ignore[arg-type]
        for _ in range(most):
            await limited()

    asyncio.run(read(1))
    with pytest.raises(HttpError) as refused:
        asyncio.run(read(100))
    assert refused.value.status == 408


def test_stream_may_wait_for_ever_after_the_body() -> None:
    events = [{"type": "http.request", "body": b"", "more_body": False}, {"type": "http.disconnect"}]

    async def receive() -> dict[str, object]:
        if len(events) == 1:
            await asyncio.sleep(0.05)
        return events.pop(0)  # type: ignore[return-value]

    async def read() -> list[str]:
        limited = limit_body(receive, 0.01)  # type: ignore[arg-type]
        return [(await limited())["type"] for _ in range(2)]

    assert asyncio.run(read()) == ["http.request", "http.disconnect"]


@pytest.mark.parametrize("query", ["lang=zh%0d%0aSet-Cookie:%20a=b", "token=%0d%0aX-Evil:1", "lang=<img>"])
def test_no_header_can_be_injected(client: TestClient, query: str) -> None:
    for path in ("/", "/effect", "/nothing", "/api/texts", "/guide"):
        answered = client.get(f"{path}?{query}")
        assert "x-evil" not in answered.headers
        assert "a=b" not in answered.headers.get("set-cookie", "")
        check_headers(answered)


def test_long_address_is_refused(client: TestClient) -> None:
    refuse(client, client.get("/" + "a" * 5000), 414)
    refuse(client, client.get("/effect?" + "a" * 9000), 414)


def test_secrets_of_the_environment_are_in_no_answer(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "0123456789abcdefghij"
    for name in ("WANDB_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "FULGURITE_BOARD_PASSWORD"):
        monkeypatch.setenv(name, secret)
    answered = client.post("/effect", json={"environment": [secret], "override": "name=hf_" + "a" * 32})
    assert answered.json() == {"read": {"environment": ["***"], "override": "name=***"}}
