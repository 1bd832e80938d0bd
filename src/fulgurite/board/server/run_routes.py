"""Routes of the runs, launches and chat."""

from __future__ import annotations

from starlette.routing import Route

from fulgurite.board.server.state import Board


def list_routes(board: Board) -> list[Route]:
    """Returns the routes, which answer for `board`."""
    return []
