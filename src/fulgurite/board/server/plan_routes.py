"""Routes of the plan, the data, the machine, the cards, and of configurations that are opened."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fulgurite.board.cards import build_cards
from fulgurite.board.http_error import HttpError
from fulgurite.board.open_draft import Opened, open_run, open_text, open_words, open_yaml
from fulgurite.board.server.json_http import answer, read_json
from fulgurite.board.server.planner import Planner
from fulgurite.board.server.preparation import Preparation
from fulgurite.board.server.run_services import RunServices
from fulgurite.board.server.state import Board
from fulgurite.language.current import get_language
from fulgurite.language.message import message

LONGEST_TAB = 64


def list_routes(board: Board) -> list[Route]:
    """Returns the routes, which answer for `board`."""

    async def ask(kind: str, request: dict[str, Any]) -> Response:
        wait = await prepare(board).describe_wait(request) if "draft" in request else None
        if wait is not None:
            return answer({"preparing": str(wait)}, 202)
        tab = str(request.get("tab") or "")[:LONGEST_TAB]
        status, body = await find_planner(board).ask(kind, request, get_language(), tab)
        return answer(body, status)

    async def show_plan(request: Request) -> Response:
        return await ask("plan", await read_json(request))

    async def show_data(request: Request) -> Response:
        return await ask("data", await read_json(request))

    async def show_machine(request: Request) -> Response:
        return await ask("machine", {})

    async def show_cards(request: Request) -> Response:
        return answer(await asyncio.to_thread(build_cards))

    async def open_config(request: Request) -> Response:
        body = await read_json(request)
        return answer(await asyncio.to_thread(lambda: open_body(board, body).to_json()))

    return [
        Route("/api/plan", show_plan, methods=["POST"]), Route("/api/data", show_data, methods=["POST"]),
        Route("/api/machine", show_machine, methods=["GET"]), Route("/api/cards", show_cards, methods=["GET"]),
        Route("/api/open", open_config, methods=["POST"]),
    ]


def find_planner(board: Board) -> Planner:
    """Returns the planner of a board."""
    return board.get_service("planner", lambda: Planner(board.roots.folders, board.roots.base, board.allow_code))


def prepare(board: Board) -> Preparation:
    """Begins to get ready for plans, unless that has begun."""
    found = board.get_service("preparation", lambda: Preparation(find_planner(board), board.roots.base))
    found.start()
    return found


def open_body(board: Board, body: dict[str, Any]) -> Opened:
    """Returns the draft of what a body names: a run, a file under a root, words or YAML. Raises FulguriteError."""
    if isinstance(body.get("run"), str):
        return open_run(RunServices(board).catalogue.find_run(body["run"]).folder, board.allow_code)
    if isinstance(body.get("path"), str):
        return _open_path(board, body["path"])
    if isinstance(body.get("words"), list):
        return open_words([str(word) for word in body["words"]], board.allow_code)
    if isinstance(body.get("words"), str):
        return open_text(body["words"], board.allow_code)
    if isinstance(body.get("yaml"), str):
        return open_yaml(body["yaml"], board.allow_code)
    raise HttpError(422, message("Give the run, path, words or yaml that is to be opened."))


def _open_path(board: Board, word: str) -> Opened:
    """Opens a run's folder or a YAML file under a root; of a file in a run's folder the run."""
    path = board.roots.resolve(word)
    for folder in (path, path.parent):
        if (folder / "provenance.json").is_file() and board.roots.contains(folder / "provenance.json"):
            return open_run(folder, board.allow_code)
    return open_yaml(board.roots.read_text(word), board.allow_code)

