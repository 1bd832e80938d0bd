"""The gate in front of a model's server: name of the host, page that asks, key, path and size of each request.

A server on the own machine is reached by every page that a browser there shows: by its address, and by DNS rebinding
under a foreign name.
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fulgurite.language.message import UserMessage, message
from fulgurite.serve.access import Access
from fulgurite.serve.api_error import ApiError

MODELS, CHAT, HEALTH = "/v1/models", "/v1/chat/completions", "/health"
MOST_BYTES = 16 << 20
"""Size of the largest body: a context of a million tokens is about 4 MB."""


class ServeGate:
    """The middleware: answers a refused request itself, in OpenAI's form."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a request; refuses WebSockets."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] != "http":
            await self.app(scope, receive, send)
        else:
            try:
                check_request(self.access, scope)
            except ApiError as error:
                more = {"www-authenticate": "Bearer"} if error.status == 401 else {}
                await JSONResponse(error.to_body(), error.status, more)(scope, receive, send)
            else:
                await self.app(scope, limit_body(receive), send)


def check_request(access: Access, scope: Scope) -> None:
    """Raises ApiError for a request that no route may see."""
    headers = Headers(scope=scope)
    hosts, path = headers.getlist("host"), scope["path"]
    if len(hosts) != 1 or hosts[0].lower() not in access.hosts:
        raise ApiError(403, message(
            "This server does not answer to this name of a host; use the printed address, or start it with hosts=NAME."
        ))
    if (origin := headers.get("origin")) is not None and origin not in access.origins:
        raise ApiError(403, message("This page may not ask this server; start it with origins=<address of the page>."))
    if path == HEALTH and scope["method"] == "GET":
        return
    if not access.has_key(headers.get("authorization", "")):
        raise ApiError(401, message("The key is missing or wrong; send it as `Authorization: Bearer KEY`."),
                       code="invalid_api_key")
    is_model = path == MODELS or path.startswith(f"{MODELS}/")
    if not (is_model or path == CHAT):
        # transformers' further routes load models that a request names, unload ours, or are untested with it
        raise ApiError(404, message("There is no {path} here; there are POST {chat} and GET {models}.",
                                    path=path[:200], chat=CHAT, models=MODELS), code="unknown_url")
    if scope["method"] != ("GET" if is_model else "POST"):
        raise ApiError(405, message("There are POST {chat} and GET {models}.", chat=CHAT, models=MODELS))
    if int(headers.get("content-length") or 0) > MOST_BYTES:
        raise ApiError(413, describe_size())


def limit_body(receive: Receive) -> Receive:
    """Returns `receive` that ends a body which is too large, whatever its head has announced."""
    count = 0

    async def receive_limited() -> Message:
        nonlocal count
        event = await receive()
        count += len(event.get("body", b""))
        if count > MOST_BYTES:
            raise HTTPException(413, str(describe_size()))  # FastAPI would turn another error into status 400
        return event

    return receive_limited


def describe_size() -> UserMessage:
    """Returns the sentence about a body that is too large."""
    return message("The request has more than {most} MB.", most=MOST_BYTES >> 20)
