"""`fulgurite board`: its flags, and the answer if its packages are missing."""

from __future__ import annotations

import pytest

from fulgurite.board.server import serve as server
from fulgurite.cli import board
from fulgurite.cli.board import board_main
from fulgurite.errors import ConfigError, RequestError


def test_flags_reach_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[server.ServeOptions] = []
    monkeypatch.setattr(server, "serve", lambda options: given.append(options) or 0)
    words = ["runs", "--port", "9", "data", "--no-browser", "--allow-code", "--host", "h", "--tls-cert", "c", "--lazy"]
    assert board_main([*words, "--tls-key", "k"]) == 0
    assert board_main([]) == 0
    assert given == [
        server.ServeOptions(["runs", "data"], 9, "h", False, True, True, "c", "k"),
        server.ServeOptions([], None, "127.0.0.1", True, False, False, None, None),
    ]


def test_missing_packages_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "find_spec", lambda name: None if name == "uvicorn" else object())
    with pytest.raises(ConfigError, match=r"needs uvicorn, .* pip install -e '\.\[board\]'"):
        board_main([])


@pytest.mark.parametrize("words", [["--port", "0"], ["--port", "70000"], ["--port", "x"], ["--share"], ["--tunnel"]])
def test_wrong_flags_are_refused(words: list[str]) -> None:
    with pytest.raises(RequestError):
        board_main(words)
