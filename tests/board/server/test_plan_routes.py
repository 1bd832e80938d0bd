"""Routes of the plan."""

from __future__ import annotations

from pathlib import Path

from tests.board.server.client import make_board

from fulgurite.board.server.plan_routes import list_routes


def test_routes_are_below_the_interface(tmp_path: Path) -> None:
    assert all(route.path.startswith("/api/") for route in list_routes(make_board(tmp_path)))
