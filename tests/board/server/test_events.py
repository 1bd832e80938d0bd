"""Streams of events: format, errors, pings, and an end that closes the generator."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from tests.board.server.client import make_board, make_client

from fulgurite.board.server.events import EventStream, format_event, stream
from fulgurite.errors import ConfigError


def read_events(text: str) -> list[tuple[str, Any]]:
    """Returns the events of a stream, without comments."""
    blocks = [block.split("\n") for block in text.split("\n\n") if block.startswith("event: ")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]


def ask(folder: Path, make: Any, method: str = "GET") -> tuple[Response, list[tuple[str, Any]]]:
    """Returns the answer of a route that streams, and its events."""
    client = make_client(make_board(folder))
    client.app.router.routes.append(Route("/s", lambda request: stream(make(request))))  # type: ignore[attr-defined]
    answer = client.request(method, "/s", params={"lang": "zh"})
    return answer, read_events(answer.text)  # type: ignore[return-value]


def test_async_and_plain_generators_are_sent(tmp_path: Path) -> None:
    async def first(request: Request) -> AsyncGenerator[tuple[str, Any]]:
        yield "rows", {"text": "two\nlines", "n": float("nan")}
        yield "done", {}

    def second(request: Request) -> Iterator[tuple[str, Any]]:
        yield "rows", [1]

    answer, events = ask(tmp_path, first)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert events == [("rows", {"text": "two\nlines", "n": None}), ("done", {})]
    assert ask(tmp_path, second)[1] == [("rows", [1])]


def test_errors_become_events_in_the_language_of_the_request(tmp_path: Path) -> None:
    closed: list[bool] = []

    async def expected(request: Request) -> AsyncGenerator[tuple[str, Any]]:
        try:
            yield "rows", []
            raise ConfigError("{name} is not a folder.", name="x")
        finally:
            closed.append(True)

    async def unexpected(request: Request) -> AsyncGenerator[tuple[str, Any]]:
        yield "rows", []
        raise RuntimeError("/home/me")

    assert ask(tmp_path, expected)[1] == [("rows", []), ("error", {"error": "x 不是目录。"})]
    assert closed == [True]
    [_, (name, data)] = ask(tmp_path, unexpected)[1]
    assert name == "error"
    assert "/home/me" not in data["error"]


def test_head_does_not_run_the_generator(tmp_path: Path) -> None:
    ran: list[bool] = []

    def events(request: Request) -> Iterator[tuple[str, Any]]:
        ran.append(True)
        yield "rows", []

    answer, _ = ask(tmp_path, events, "HEAD")
    assert answer.status_code == 200
    assert ran == []


def run_stream(board: Any, ping: float, leave: asyncio.Event) -> tuple[list[str], list[bool]]:
    """Runs a stream that never ends by itself; `leave` is the browser's leaving. Returns what was sent."""
    sent: list[str] = []
    closed: list[bool] = []

    async def events() -> AsyncGenerator[tuple[str, Any]]:
        try:
            yield "rows", [1]
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    async def receive() -> dict[str, Any]:
        await leave.wait()
        return {"type": "http.disconnect"}

    async def send(event: Any) -> None:
        sent.append(event.get("body", b"").decode())
        if sent.count(": ping\n\n") == 2:
            leave.set()
            if board is not None:
                board.closing.set()

    scope: dict[str, Any] = {"type": "http", "method": "GET"}
    if board is not None:
        scope["app"] = make_client(board).app
    asyncio.run(asyncio.wait_for(EventStream(events(), ping)(scope, receive, send), 10))  # type: ignore[arg-type]
    return sent, closed


def test_stream_pings_and_ends_when_the_browser_leaves() -> None:
    sent, closed = run_stream(None, 0.001, asyncio.Event())
    assert format_event("rows", [1]) in sent
    assert closed == [True]


def test_stream_ends_with_the_server(tmp_path: Path) -> None:
    board = make_board(tmp_path)

    class Never(asyncio.Event):
        def set(self) -> None:
            """The browser stays."""

    sent, closed = run_stream(board, 0.001, Never())
    assert closed == [True]
    assert sent[-1] == ""


def test_stream_of_a_board_that_ends_is_over_at_once(tmp_path: Path) -> None:
    """The body of the request arrives at the moment of the end: `asyncio.wait_for` would forget the cancellation."""

    async def events() -> AsyncGenerator[tuple[str, Any]]:
        await asyncio.Event().wait()
        yield "rows", []

    board = make_board(tmp_path)
    board.closing.set()
    client = make_client(board)
    client.app.router.routes.append(Route("/s", lambda request: stream(events())))  # type: ignore[attr-defined]
    assert read_events(client.get("/s").text) == []
