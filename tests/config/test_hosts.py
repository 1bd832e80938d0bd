"""Names of this machine, and sockets that listen."""

from __future__ import annotations

import socket

import pytest

from fulgurite.config.hosts import is_loopback, list_hosts, list_names, listen, write_host


@pytest.mark.parametrize(("host", "alone"), [
    ("127.0.0.1", True), ("localhost", True), ("::1", True), ("[::1]", True), ("127.0.0.5", True),
    ("0.0.0.0", False), ("::", False), ("localhost.example.org", False), ("10.0.0.1", False),
])
def test_loopback_is_known_by_its_spelling(host: str, alone: bool) -> None:
    assert is_loopback(host) is alone


def test_names_of_a_host_and_of_every_interface() -> None:
    assert list_names("localhost") == ["localhost", "127.0.0.1", "[::1]"]
    assert list_names("fe80::1") == ["[fe80::1]"]
    assert {"127.0.0.1", "localhost", socket.gethostname()} <= set(list_names("0.0.0.0"))
    assert write_host("[::1]") == write_host("::1") == "[::1]"


def test_own_port_of_a_scheme_may_be_left_out() -> None:
    assert list_hosts(("A",), 80) == {"a:80", "a"}
    assert list_hosts(("a",), 443, "https") == {"a:443", "a"}
    assert list_hosts(("a", "[::1]"), 443) == {"a:443", "[::1]:443"}


def test_a_taken_port_is_refused() -> None:
    with listen("localhost", 0) as first, pytest.raises(OSError, match="in use"):
        listen("127.0.0.1", first.getsockname()[1])
