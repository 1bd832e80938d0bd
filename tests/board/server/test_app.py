"""Errors of routes become answers: a sentence in the language asked for, and never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient
from tests.board.server.client import make_board, make_client

from fulgurite.board.http_error import HttpError
from fulgurite.board.server.app import create_app
from fulgurite.errors import ConfigError
from fulgurite.language.message import message


def fail_expected(request: Request) -> Response:
    raise ConfigError("{name} is not a folder.", name="x")


async def fail_with_status(request: Request) -> Response:
    raise HttpError(503, message("There is nothing at this address."), "stage=sft")


def fail_unexpected(request: Request) -> Response:
    raise RuntimeError("secret /home/me")


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    """Returns a browser of a board with three routes that fail."""
    client = make_client(make_board(tmp_path))
    for path, endpoint in (("/a", fail_expected), ("/b", fail_with_status), ("/c", fail_unexpected)):
        client.app.router.routes.append(Route(path, endpoint))  # type: ignore[attr-defined]
    return client


@pytest.mark.parametrize(("path", "status", "english", "chinese", "words"), [
    ("/a", 422, "x is not a folder.", "x 不是目录。", ""),
    ("/b", 503, "There is nothing at this address.", "这个地址没有内容。", "stage=sft"),
    ("/c", 500, "The board failed (RuntimeError); its terminal has the details.",
     "面板出错（RuntimeError）；详情见它的终端。", ""),
    ("/nothing", 404, "There is nothing at this address.", "这个地址没有内容。", ""),
    ("/a/", 404, "There is nothing at this address.", "这个地址没有内容。", ""),
])
def test_errors_are_sentences(
    client: TestClient, path: str, status: int, english: str, chinese: str, words: str
) -> None:
    for language, sentence in (("en", english), ("zh", chinese)):
        answer = client.get(path, params={"lang": language})
        assert answer.status_code == status
        assert answer.json() == {"error": sentence, "words": words}
        assert answer.headers["content-type"] == "application/json"


def test_browser_chooses_the_language_without_a_parameter(client: TestClient) -> None:
    answer = client.get("/a", headers={"accept-language": "zh-CN,zh;q=0.9,en;q=0.8"})
    assert answer.json()["error"] == "x 不是目录。"


def test_services_end_with_the_server(tmp_path: Path) -> None:
    board = make_board(tmp_path)
    closed: list[bool] = []

    class Service:
        def close(self) -> None:
            closed.append(True)

    with make_client(board):
        board.get_service("planner", Service)
    assert closed == [True]


@pytest.mark.parametrize("warms_up", [True, False])
def test_board_gets_ready_for_plans_at_its_start_if_it_warms_up(tmp_path: Path, warms_up: bool) -> None:
    started: list[str] = []

    class Ready:
        """Notes that it was started."""

        def start(self) -> None:
            """Starts."""
            started.append("now")

    board = make_board(tmp_path)
    board.get_service("preparation", Ready)
    with TestClient(create_app(board, warms_up=warms_up)):
        assert len(started) == warms_up
