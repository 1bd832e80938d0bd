"""The route that lists folders under the roots, for a person who picks a file."""

from __future__ import annotations

import dataclasses

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fulgurite.board.server.json_http import answer
from fulgurite.board.server.state import Board


def list_routes(board: Board) -> list[Route]:
    """Returns the route /api/files."""

    def list_files(request: Request) -> Response:
        folder, entries = board.roots.list_folder(request.query_params.get("path", ""))
        number, path = board.roots.find_root(folder)
        return answer({
            "path": path, "root": number, "roots": board.roots.names,
            "parent": None if folder == board.roots.folders[number] else board.roots.shorten(folder.parent),
            "entries": [dataclasses.asdict(entry) for entry in entries],
        })

    return [Route("/api/files", list_files)]
