"""The user at the other end of a connection on this machine."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from fulgurite.board.server import peer
from fulgurite.board.server.peer import find_user, write_address


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="the system has no such table")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_own_connection_is_of_the_own_user(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as server:
        port = server.getsockname()[1]
        with socket.create_connection((host, port)) as client:
            place = client.getsockname()[:2]
            assert find_user(place, port) == os.geteuid()
            assert find_user(place, port + 1) is None
            assert find_user(("127.0.0.2", place[1]), port) is None


def test_unknown_connection_has_no_user(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [find_user(client, 1) for client in (None, ("testclient", 5), ("192.0.2.1", 5))] == [None] * 3
    monkeypatch.setitem(peer.TABLES, socket.AF_INET, Path("/no/such/table"))
    assert find_user(("127.0.0.1", 5), 1) is None


def test_addresses_are_written_as_linux_does() -> None:
    assert write_address(socket.AF_INET, "127.0.0.1") == "0100007F"
    assert write_address(socket.AF_INET6, "::1") == "0" * 24 + "01000000"
