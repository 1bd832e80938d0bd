"""Slow and silent clients are cut off by a real server; each limit is shortened, so that nobody waits."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.board.server.live import LiveBoard, run_live, wait_until

from fulgurite.board.server import protocol
from fulgurite.board.server.security import MOST_BYTES


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveBoard]:
    """Runs a board with short limits in a thread."""
    with pytest.MonkeyPatch.context() as patch, run_live(tmp_path_factory.mktemp("root"), patch) as board:
        yield board


def send(live: LiveBoard, *parts: bytes) -> bytes:
    """Sends bytes, and returns everything that comes until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", live.port), timeout=20) as connection:
        received = b""
        try:
            for part in parts:
                connection.sendall(part)
            while chunk := connection.recv(1 << 16):
                received += chunk
        except ConnectionError:  # closed while something was still on its way
            pass
    return received


@pytest.mark.parametrize("head", [
    b"", b"G", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: y",
])
def test_head_that_never_ends_is_cut_off(live: LiveBoard, head: bytes) -> None:
    assert send(live, head) == b""


def test_second_head_that_never_ends_is_cut_off(live: LiveBoard) -> None:
    answered = send(live, live.get("/nothing"), b"GET / HT")
    assert answered.startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize("body", [b"Content-Length: 100\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"])
def test_body_that_never_ends_is_cut_off(live: LiveBoard, body: bytes) -> None:
    answered = send(live, live.post_head("/api/login") + body)
    assert answered.startswith(b"HTTP/1.1 408 ")


def test_large_chunked_body_is_cut_off(live: LiveBoard) -> None:
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    answered = send(live, live.post_head("/api/login") + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk] * 800)
    assert answered == b"" or answered.startswith(b"HTTP/1.1 413 ")
    assert len(chunk) * 800 > 40 * MOST_BYTES
    assert live.is_up()


@pytest.mark.parametrize("request_bytes", [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET / HTTP/1.1\r\n\r\n", b"nonsense\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n bad: folded\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 2\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * (1 << 20) + b"\r\n\r\n", b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
])
def test_what_is_no_http_is_refused_with_the_headers(live: LiveBoard, request_bytes: bytes) -> None:
    answered = send(live, request_bytes)
    assert answered == b"" or answered.startswith(b"HTTP/1.1 4")
    if answered:
        assert b"content-security-policy: default-src 'self'" in answered.lower()
    assert b"\r\nserver:" not in answered.lower()
    assert live.is_up()


@pytest.mark.parametrize("path", [
    "/assets/../server/app.py", "/assets/vendor/../../server/app.py", "/../../etc/passwd", "//etc/passwd", "/./secret",
    "/api/runs/../../secret", "/assets/./login.js", "http://evil.example/", "/assets/..%2fserver%2fapp.py", "*",
    "/assets/%00", "/assets/login.js%00.css", "/api/files/../texts", "/assets/login.js/", "/assets//login.js", "/?/..",
])
def test_path_that_no_browser_sends_is_nothing(live: LiveBoard, path: str) -> None:
    answered = send(live, live.get(path))
    assert answered.startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 400 ")) or path == "/?/.."


def test_websocket_upgrade_is_no_upgrade(live: LiveBoard) -> None:
    head = live.get("/api/events")[:-2]
    answered = send(live, head + b"Upgrade: websocket\r\nConnection: upgrade, close\r\nSec-WebSocket-Key: eA==\r\n\r\n")
    assert answered.startswith(b"HTTP/1.1 400 ")


def test_connections_are_limited(live: LiveBoard) -> None:
    held = [socket.create_connection(("127.0.0.1", live.port), timeout=20) for _ in range(protocol.MOST_CONNECTIONS)]
    try:
        with socket.create_connection(("127.0.0.1", live.port), timeout=20) as further, \
                contextlib.suppress(ConnectionError):
            assert further.recv(1) == b""
    finally:
        for connection in held:
            connection.close()
    assert live.is_up()


def test_client_that_does_not_read_is_cut_off(live: LiveBoard) -> None:
    """The answer is larger than what the sockets of both sides hold."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(20)
        connection.connect(("127.0.0.1", live.port))
        connection.sendall(live.get("/large"))
        live.wait_until_gone(connection.getsockname()[1])


def open_stream(live: LiveBoard) -> socket.socket:
    """Opens /stream, and returns the connection when the first event has come."""
    connection = socket.create_connection(("127.0.0.1", live.port), timeout=20)
    connection.sendall(live.get("/stream"))
    received = b""
    while b"event: rows" not in received:
        received += connection.recv(1 << 16)
    return connection


def test_generator_of_a_stream_is_closed_when_the_browser_leaves(live: LiveBoard) -> None:
    live.streams.clear()
    open_stream(live).close()
    wait_until(lambda: live.streams == ["open", "closed"])


def test_server_ends_at_once_while_a_stream_is_open(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        with run_live(tmp_path, patch) as live:
            connection = open_stream(live)
            began = time.monotonic()
        assert time.monotonic() - began < live.server.config.timeout_graceful_shutdown
    assert live.streams == ["open", "closed"]
    connection.close()
