"""The application: the routes of every part behind the gate, and errors as answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from fulgurite.board.http_error import HttpError
from fulgurite.board.server import file_routes, page_routes, plan_routes, run_routes
from fulgurite.board.server.json_http import answer_error
from fulgurite.board.server.security import BODY_SECONDS, Gate
from fulgurite.board.server.state import Board
from fulgurite.language.message import message

PARTS = (page_routes, file_routes, plan_routes, run_routes)


def create_app(board: Board, body_seconds: float = BODY_SECONDS, warms_up: bool = False) -> Starlette:
    """Returns the application of a board; `body_seconds` is the time that a body may take. With `warms_up` it gets
    ready for plans when it starts, else when the first plan is asked for."""

    @asynccontextmanager
    async def live(app: Starlette) -> AsyncIterator[None]:
        if warms_up:
            plan_routes.prepare(board)
        yield
        await board.end()

    app = Starlette(
        routes=[route for part in PARTS for route in part.list_routes(board)],
        middleware=[Middleware(Gate, board=board, body_seconds=body_seconds)],
        exception_handlers={HTTPException: _answer_http},
        lifespan=live,
    )
    app.router.redirect_slashes = False  # a redirect would repeat the Host of the request
    app.state.board = board
    return app


async def _answer_http(request: Request, error: Exception) -> Response:
    """Answers what Starlette itself refuses: an unknown path, or a method that a path does not have."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status == 405:
        return answer_error(HttpError(405, message("This address does not take that method.")))
    return answer_error(HttpError(404, message("There is nothing at this address.")))
