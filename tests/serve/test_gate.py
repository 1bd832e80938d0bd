"""The gate: which requests reach the model's server, and in which form the others are refused."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from fulgurite.serve import gate
from fulgurite.serve.access import Access
from fulgurite.serve.gate import CHAT, HEALTH, MODELS, ServeGate

KEY = "0123456789abcdef"
BEARER = {"authorization": f"Bearer {KEY}"}


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    """Stands for the server: reads the body."""
    more = True
    while more:
        more = (await receive()).get("more_body", False)
    await PlainTextResponse("reached")(scope, receive, send)


def ask(method: str, path: str, key: str = "", **how: Any) -> tuple[int, Any]:
    """The status and the code or text of an answer."""
    access = Access(frozenset({"localhost:8000"}), ("https://app.example",), key)
    client = TestClient(ServeGate(answer, access), base_url="http://localhost:8000")
    found = client.request(method, path, **how)
    if found.text == "reached":
        return found.status_code, "reached"
    assert {*found.json()["error"]} == {"message", "type", "param", "code"}
    return found.status_code, found.json()["error"]["code"]


@pytest.mark.parametrize(("method", "path", "status"), [
    ("POST", CHAT, 200), ("GET", MODELS, 200), ("GET", f"{MODELS}/a/b", 200), ("GET", HEALTH, 200),
    ("GET", CHAT, 405), ("POST", MODELS, 405), ("OPTIONS", MODELS, 405), ("POST", HEALTH, 404),
    *(("POST", path, 404) for path in (
        "/load_model", "/reset", "/v1/responses", "/v1/completions", "/v1/systemone", "/v1/audio/transcriptions",
        "/v1/chat/completions/", "//v1/chat/completions",
    )),
    *(("GET", path, 404) for path in ("/", "/docs", "/openapi.json", "/redoc", "/v1/modelsx")),
])
def test_only_the_routes_for_one_model_are_reached(method: str, path: str, status: int) -> None:
    assert ask(method, path)[0] == status


def test_a_foreign_name_of_the_host_is_refused() -> None:
    for host in ("evil.example:8000", "localhost", "localhost:8001", "127.0.0.1:8000", ""):
        assert ask("GET", MODELS, headers={"host": host})[0] == 403
        assert ask("GET", HEALTH, headers={"host": host})[0] == 403
    assert ask("GET", MODELS, headers={"host": "LOCALHOST:8000"})[0] == 200


def test_a_foreign_page_is_refused() -> None:
    for origin in ("https://evil.example", "null", "http://localhost:8000", "https://app.example.evil", ""):
        assert ask("POST", CHAT, headers={"origin": origin})[0] == 403
    assert ask("POST", CHAT, headers={"origin": "https://app.example"})[0] == 200


def test_the_key_is_asked_for_everywhere_but_at_the_health() -> None:
    assert ask("GET", MODELS, key=KEY) == (401, "invalid_api_key")
    assert ask("POST", "/load_model", key=KEY) == (401, "invalid_api_key")
    assert ask("POST", CHAT, key=KEY, headers={"authorization": "Bearer no"}) == (401, "invalid_api_key")
    assert ask("POST", CHAT, key=KEY, headers=BEARER)[0] == 200
    assert ask("GET", HEALTH, key=KEY)[0] == 200


def test_a_large_body_is_refused_with_and_without_its_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "MOST_BYTES", 1 << 20)
    whole = b"x" * (1 << 20)
    assert ask("POST", CHAT, content=whole)[0] == 200
    assert ask("POST", CHAT, content=whole + b"x")[0] == 413
    with pytest.raises(gate.HTTPException, match="more than 1 MB"):  # FastAPI, inside, turns it into status 413
        ask("POST", CHAT, content=iter([whole, b"x"]))


def test_websockets_are_closed() -> None:
    client = TestClient(ServeGate(answer, Access(frozenset())))
    with pytest.raises(WebSocketDisconnect) as refused, client.websocket_connect("/v1"):
        pass
    assert refused.value.code == 1008
