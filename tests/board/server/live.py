"""A board on a real port, in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import urllib.error
import urllib.request
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.responses import Response
from starlette.routing import Route

from fulgurite.board.roots import Roots
from fulgurite.board.server.app import create_app
from fulgurite.board.server.events import stream
from fulgurite.board.server.protocol import LimitedProtocol
from fulgurite.board.server.serve import ServeOptions, Server, build_config, open_socket
from fulgurite.board.server.session import Sessions
from fulgurite.board.server.state import Board
from fulgurite.config.hosts import LOOPBACK_NAMES, list_hosts

SHORT = 0.3
"""Seconds of each limit in these tests."""


@dataclass(slots=True)
class LiveBoard:
    """A board that is up."""

    board: Board
    server: Server
    streams: list[str]
    """What the generators behind /stream did: `open` and `closed`."""

    @property
    def port(self) -> int:
        """Its port."""
        return self.board.port

    def get(self, path: str) -> bytes:
        """Returns a request with a cookie."""
        return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nCookie: {self._cookie()}\r\n\r\n".encode()

    def post_head(self, path: str) -> bytes:
        """Returns the head of a request with a cookie, without the end and what describes the body."""
        return (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nOrigin: http://127.0.0.1:{self.port}\r\n"
            f"Content-Type: application/json\r\nCookie: {self._cookie()}\r\n"
        ).encode()

    def _cookie(self) -> str:
        return f"{self.board.sessions.name}={self.board.sessions.make_cookie()}"

    def is_up(self) -> bool:
        """Returns whether the server still answers."""
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=20)
        except urllib.error.HTTPError as error:
            return error.code == 401
        return False

    def wait_until_gone(self, client_port: int) -> None:
        """Waits until the server has dropped the connection of a client."""
        def is_gone() -> bool:
            return all(found.client is None or found.client[1] != client_port
                       for found in list(self.server.server_state.connections))

        wait_until(is_gone)


def wait_until(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    """Waits until something holds; fails after some time."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        threading.Event().wait(0.01)


@contextlib.contextmanager
def run_live(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[LiveBoard]:
    """Runs a board in a thread with short limits; /large answers with more than sockets hold, /stream never ends."""
    patch.setattr(LimitedProtocol, "head_seconds", SHORT)
    patch.setattr(LimitedProtocol, "stall_seconds", SHORT)
    listener = open_socket("127.0.0.1", None)
    port = listener.getsockname()[1]
    hosts = list_hosts(LOOPBACK_NAMES, port)
    board = Board(Roots([folder]), folder, Sessions(b"k" * 32, port), port, hosts=hosts)
    config: uvicorn.Config = build_config(board, ServeOptions())
    config.timeout_keep_alive = SHORT  # type: ignore[assignment]
    config.app = create_app(board, body_seconds=SHORT)
    large = Response(b"x" * (64 << 20))
    streams: list[str] = []

    async def events() -> AsyncGenerator[tuple[str, Any]]:
        try:
            streams.append("open")
            yield "rows", [1]
            await asyncio.Event().wait()
        finally:
            streams.append("closed")

    config.app.router.routes += [
        Route("/large", lambda request: large), Route("/stream", lambda request: stream(events())),
    ]
    server = Server(config, board)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    try:
        yield LiveBoard(board, server, streams)
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
    assert not thread.is_alive()
