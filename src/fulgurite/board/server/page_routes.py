"""Routes of the page itself: index.html, assets, texts, the guide, and the login."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from fulgurite.board.http_error import HttpError
from fulgurite.board.server.json_http import answer, read_json
from fulgurite.board.server.login_page import build_login_page
from fulgurite.board.server.peer import find_user
from fulgurite.board.server.security import has_cookie, set_cookie
from fulgurite.board.server.state import Board
from fulgurite.board.texts import list_texts
from fulgurite.language.current import get_language, use_language
from fulgurite.language.message import message

ASSETS = Path(__file__).resolve().parents[1] / "assets"
GUIDE_ASSETS = Path(__file__).resolve().parents[2] / "explain" / "assets"
TYPES = {
    ".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8",
    ".json": "application/json", ".svg": "image/svg+xml", ".png": "image/png", ".txt": "text/plain; charset=utf-8",
}
"""By suffix; the mimetypes of a system may know none of them, or another type for .js."""


def list_routes(board: Board) -> list[Route]:
    """Returns the routes of the page."""
    # A table of what there is: a name that is not in it is never looked for on the disk.
    files = list_assets()

    def show_page(request: Request) -> Response:
        token, verb = request.query_params.get("token"), request.method
        if token is not None and verb == "GET" and board.sessions.use_token(token, find_user(
            request.client, board.port
        )):
            # The token leaves the address bar, so that it is in no bookmark.
            response: Response = RedirectResponse("/", 303)
            set_cookie(board, response)
            return response
        if has_cookie(board, request.headers):
            return RedirectResponse("/", 303) if token is not None else send_file(request, files["index.html"])
        if board.sessions.is_token_used:  # at most one line on the terminal for each address that was used
            board.print_address()
        return Response(build_login_page(board.sessions.has_password), 401, media_type="text/html")

    def send_asset(request: Request) -> Response:
        path = files.get(request.path_params["name"])
        if path is None:
            raise HttpError(404, message("There is nothing at this address."))
        return send_file(request, path)

    def send_icon(request: Request) -> Response:
        return send_file(request, files["icon.svg"])

    async def log_in(request: Request) -> Response:
        given = await read_json(request)
        password = given.get("password")
        client = request.client.host if request.client else ""
        right = board.sessions.use_password(password if isinstance(password, str) else "", client)
        if right is None:
            raise HttpError(429, message("Too many wrong passwords; wait a minute."))
        if not right:
            raise HttpError(401, message("This is not the password of FULGURITE_BOARD_PASSWORD."))
        response = answer({"ok": True})
        set_cookie(board, response)
        return response

    return [
        Route("/", show_page), Route("/assets/{name:path}", send_asset), Route("/api/texts", send_texts),
        Route("/favicon.ico", send_icon),  # a browser asks for it on pages that name no icon, such as the guide
        Route("/guide", send_guide), Route("/api/login", log_in, methods=["POST"]),
    ]


def list_assets() -> dict[str, Path]:
    """Returns the files under /assets/ by name: the page's, and the guide's style and script."""
    own = {
        str(path.relative_to(ASSETS)): path
        for path in sorted(ASSETS.rglob("*")) if path.suffix in TYPES and path.is_file() and not path.is_symlink()
    }
    return own | {name: GUIDE_ASSETS / name for name in ("guide.css", "guide.js")}


def send_file(request: Request, path: Path) -> Response:
    """Returns a file as an answer, or 304 if the browser has it already."""
    content = path.read_bytes()
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {"etag": tag, "cache-control": "no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, 200, headers, TYPES[path.suffix])


def send_texts(request: Request) -> Response:
    """Answers with every text of the page in the language of the request."""
    return answer({"lang": get_language(), "texts": {name: str(text) for name, text in list_texts().items()}})


def send_guide(request: Request) -> Response:
    """Answers with the guide in the language of the request."""
    return Response(_build_guide(get_language()), media_type="text/html")


@cache
def _build_guide(language: str) -> str:
    from fulgurite.explain.html import build_page  # half a second, which the start of the server does not need

    with use_language(language):
        return build_page(linked=True)
