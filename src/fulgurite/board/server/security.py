"""The gate in front of every route: who may ask, from which page, in which form, and what every answer carries.

A board that listens on the own machine is reached by any page that a browser there shows (CVE-2025-62593 in Ray,
CVE-2025-14279 in MLflow), so that each request is checked: name of the host, origin, cookie, method, type and size.
"""

from __future__ import annotations

import asyncio
import re
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fulgurite.board.http_error import HttpError
from fulgurite.board.server.json_http import answer_error, choose_language
from fulgurite.board.server.session import LIFE
from fulgurite.board.server.state import Board
from fulgurite.board.server.troubles import report_unexpected
from fulgurite.errors import FulguriteError
from fulgurite.language.current import use_language
from fulgurite.language.message import message

POLICY = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'; object-src 'none'"
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
LANG = re.compile(rb"(?:^|&)lang=([a-z]{2})(?:&|$)")
VERBS = ("GET", "HEAD", "POST")
OPEN = frozenset({"/", "/api/login", "/assets/login.js", "/assets/login.css", "/favicon.ico"})
"""Paths that answer without a cookie: the page that asks for one, and what it needs. `/` checks the cookie itself."""
MOST_BYTES = 1 << 20
"""Size of the largest body."""
BODY_SECONDS = 20.0
"""Seconds in which a body has to arrive."""


class Gate:
    """The middleware: checks a request, sets the language, and turns what is raised into answers."""

    def __init__(self, app: ASGIApp, board: Board, body_seconds: float = BODY_SECONDS) -> None:
        self.app = app
        self.board = board
        self.body_seconds = body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a request; refuses WebSockets."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] != "http":
            await self.app(scope, receive, send)
        else:
            with use_language(_find_language(scope)):
                await self._handle(scope, receive, send)

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def send_with_headers(event: Message) -> None:
            nonlocal started
            if event["type"] == "http.response.start":
                started = True
                _add_headers(event, scope["path"])
            await send(event)

        try:
            check_request(self.board, scope)
            await self.app(scope, limit_body(receive, self.body_seconds), send_with_headers)
        except FulguriteError as error:
            response = answer_error(error)
        except Exception as error:
            response = answer_error(HttpError(500, report_unexpected(error)))
        else:
            return
        if not started:
            # What the browser still sends of a refused body is not read.
            if response.status_code in (400, 408, 413):
                response.headers["connection"] = "close"
            await response(scope, receive, send_with_headers)


def _find_language(scope: Scope) -> str:
    """Returns the language by `?lang=`, else by the browser's own, else that of the terminal."""
    asked = LANG.search(scope["query_string"])
    spoken = Headers(scope=scope).get("accept-language", "")[:2].lower()
    return choose_language(asked[1].decode() if asked else spoken)


def _is_short(scope: Scope) -> bool:
    return len(scope["query_string"]) <= 8192


def _add_headers(event: Message, path: str) -> None:
    headers = MutableHeaders(raw=list(event.get("headers", [])))
    for name, value in HEADERS.items():
        headers[name] = value
    if "cache-control" not in headers:
        headers["cache-control"] = "no-store"
    event["headers"] = headers.raw


def check_request(board: Board, scope: Scope) -> None:
    """Raises HttpError for a request that no route may see."""
    headers = Headers(scope=scope)
    verb, path = scope["method"], scope["path"]
    hosts = headers.getlist("host")
    if len(hosts) != 1 or hosts[0].lower() not in board.hosts:
        # DNS rebinding: the page of a foreign name, whose address has become this machine's
        raise HttpError(403, message("The board does not answer to this name; open the printed address."))
    if verb not in VERBS:
        raise HttpError(405, message("The board knows GET, HEAD and POST."))
    if len(scope.get("raw_path") or b"") > 4096 or not _is_short(scope):
        raise HttpError(414, message("The address is too long."))
    if "upgrade" in headers:
        raise HttpError(400, message("The board has no WebSockets."))
    _check_origin(headers, verb, path, f"{board.scheme}://{hosts[0].lower()}")
    _check_body(headers, verb)
    if path not in OPEN and not has_cookie(board, headers):
        raise HttpError(401, message("Open the address that the terminal shows; it works once."))


def _check_origin(headers: Headers, verb: str, path: str, own: str) -> None:
    """Raises HttpError if another page sends the request. A browser sets both headers, and no page can change them."""
    origins = headers.getlist("origin")
    # A POST always has an origin; a GET of our own page has none.
    if (verb == "POST" and not origins) or any(origin.lower() != own for origin in origins):
        raise _refuse_origin()
    site = headers.get("sec-fetch-site", "same-origin")
    # A person may follow a link to the start page, which contains nothing; its scripts then ask from their own origin.
    follows = path == "/" and verb != "POST" and headers.get("sec-fetch-mode") == "navigate"
    typed = site == "none" and verb != "POST"
    if site != "same-origin" and not typed and not (follows and headers.get("sec-fetch-dest") == "document"):
        raise _refuse_origin()


def _refuse_origin() -> HttpError:
    return HttpError(403, message("Another page sent this request; the board answers its own page only."))


def _check_body(headers: Headers, verb: str) -> None:
    """Raises HttpError for a body that is not JSON, too large by its own account, or where none belongs."""
    lengths = headers.getlist("content-length")
    if len(lengths) > 1 or any(not (length.isascii() and length.isdecimal()) for length in lengths):
        raise HttpError(400, message("The length of the body is not a number."))
    size = int(lengths[0][:20]) if lengths else 0
    if verb != "POST":
        if size or "transfer-encoding" in headers:
            raise HttpError(400, message("Only POST has a body."))
        return
    if size > MOST_BYTES:
        raise _refuse_size()
    kind, _, options = headers.get("content-type", "").partition(";")
    if kind.strip().lower() != "application/json" or options.replace(" ", "").lower() not in ("", "charset=utf-8"):
        raise HttpError(415, message("The board reads application/json only."))
    if headers.get("content-encoding", "identity") != "identity":
        raise HttpError(415, message("The board reads application/json only."))


def _refuse_size() -> HttpError:
    return HttpError(413, message("The body of the request is larger than {most} MB.", most=MOST_BYTES >> 20))


# Starlette's RequestBodyLimitMiddleware has no limit of time, and came after 1.0.
def limit_body(receive: Receive, seconds: float) -> Receive:
    """Returns a `receive` that refuses a body that is too large or too slow; the length that it claims does not
    count."""
    size = 0
    whole = False
    end: float | None = None

    async def receive_some() -> Message:
        nonlocal size, whole, end
        if whole:  # from now on it waits for the browser to leave, as long as that takes
            return await receive()
        end = asyncio.get_running_loop().time() + seconds if end is None else end
        try:
            # not `wait_for`, which in Python 3.11 forgets that it was cancelled if its result comes at the same moment
            async with asyncio.timeout_at(end):
                event = await receive()
        except TimeoutError:
            raise HttpError(408, message("The body of the request came too slowly.")) from None
        size += len(event.get("body", b""))
        if size > MOST_BYTES:
            raise _refuse_size()
        whole = event["type"] != "http.request" or not event.get("more_body", False)
        return event

    return receive_some


def has_cookie(board: Board, headers: Headers) -> bool:
    """Returns whether a request carries a valid cookie of this board."""
    for line in headers.getlist("cookie"):
        if len(line) > 8192:
            continue
        try:
            found = SimpleCookie(line).get(board.sessions.name)
        except CookieError:
            continue
        if found is not None and board.sessions.is_valid(found.value):
            return True
    return False


def set_cookie(board: Board, response: Response) -> None:
    """Adds a new cookie to an answer: no script can read it, and no other page's request carries it."""
    sessions = board.sessions
    response.set_cookie(
        sessions.name, sessions.make_cookie(), max_age=LIFE, path="/", secure=sessions.secure, httponly=True,
        samesite="strict",
    )
