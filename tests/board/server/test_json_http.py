"""JSON in and out: what is no JSON object is refused, and no secret leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient
from tests.board.server.client import make_board, make_client

from fulgurite.board.server.json_http import answer, choose_language, dump_json, hide_secrets, read_json
from fulgurite.language.current import use_language
from fulgurite.language.message import message


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    """Returns a browser; /echo answers with what was read."""

    async def echo(request: Request) -> Response:
        return answer({"read": await read_json(request)})

    client = make_client(make_board(tmp_path))
    client.app.router.routes.append(Route("/echo", echo, methods=["POST"]))  # type: ignore[attr-defined]
    return client


def test_object_is_read(client: TestClient) -> None:
    given = {"text": "<img onerror=x> \u4e2d\U0001f600", "deep": [[{}]], "number": 1e-4}
    assert client.post("/echo", json=given).json() == {"read": given}


@pytest.mark.parametrize("body", [
    b"", b"{", b"[]", b"1", b"null", b'"text"', b"{'a': 1}", b'{"a": NaN}', b'{"a": Infinity}', b"\xff\xfe{}",
    b'{"a": "\\ud800"}', b"[" * 100_000, b'{"a":' * 100_000, b'{"a": ' + b"9" * 5000 + b"}", b"a=b&c=d",
    b"<xml/>", b'{"a": 1}{"b": 2}',
])
def test_what_is_no_object_is_refused(client: TestClient, body: bytes) -> None:
    refused = client.post("/echo", content=body, headers={"content-type": "application/json"})
    assert refused.status_code == 400
    assert set(refused.json()) == {"error", "words"}


def test_numbers_that_json_lacks_are_null() -> None:
    data = {"a": [float("nan"), 1.0], "b": {"c": float("-inf")}, "d": (float("inf"),)}
    assert json.loads(dump_json(data)) == {"a": [None, 1.0], "b": {"c": None}, "d": [None]}


def test_sentences_are_in_the_language_in_use() -> None:
    data = {"s": message("There is nothing at this address.")}
    with use_language("zh"):
        assert "这个地址没有内容" in dump_json(data)
    assert "There is nothing" in dump_json(data)


def test_secrets_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef0123")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG")
    monkeypatch.setenv("MY_PASSWORD", "short")
    given = {"a": "x 0123456789abcdef0123 y", "b": ["wJalrXUtnFEMI/K7MDENG"], "c": "hf_" + "a" * 30, "d": "short"}
    text = dump_json(given)
    assert json.loads(text) == {"a": "x *** y", "b": ["***"], "c": "***", "d": "short"}
    assert hide_secrets("nothing") == "nothing"


def test_unknown_language_is_that_of_the_terminal() -> None:
    with use_language("zh"):
        assert [choose_language(asked) for asked in ("en", "xx", None, "")] == ["en", "zh", "zh", "zh"]
