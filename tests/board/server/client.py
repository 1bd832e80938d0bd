"""A board in a folder, and a browser that is logged in, for the tests of routes."""

from __future__ import annotations

from pathlib import Path

from starlette.testclient import TestClient

from fulgurite.board.roots import Roots
from fulgurite.board.server.app import create_app
from fulgurite.board.server.session import Sessions
from fulgurite.board.server.state import Board
from fulgurite.config.hosts import LOOPBACK_NAMES, list_hosts

PORT = 7878
ORIGIN = f"http://127.0.0.1:{PORT}"


def make_board(folder: Path, *, allow_code: bool = False, password: str = "") -> Board:
    """Returns a board whose only root is `folder`; paths are relative to it."""
    cache = folder.parent / f"{folder.name}-cache"
    cache.mkdir(exist_ok=True)
    sessions = Sessions(b"k" * 32, PORT, password)
    return Board(Roots([folder], folder), cache, sessions, PORT, allow_code, hosts=list_hosts(LOOPBACK_NAMES, PORT))


def make_client(board: Board, *, logged_in: bool = True, **options: float) -> TestClient:
    """Returns a browser that shows the page of the board; each POST has its origin."""
    client = TestClient(
        create_app(board, **options), base_url=ORIGIN, headers={"origin": ORIGIN}, follow_redirects=False,
        raise_server_exceptions=False,
    )
    if logged_in:
        client.cookies.set(board.sessions.name, board.sessions.make_cookie())
    return client
