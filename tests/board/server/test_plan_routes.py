"""Routes of cards and of configurations that are opened; those of the worker with a worker that answers at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.board.server.client import make_board, make_client

from fulgurite.board.roots import make_run_id
from fulgurite.board.server.state import Board
from fulgurite.config.compose import compose
from fulgurite.run.folder import write_run


class EchoPlanner:
    """Answers with what it was asked."""

    async def ask(self, kind: str, request: dict[str, Any], language: str, tab: str = "") -> tuple[int, dict[str, Any]]:
        status = 422 if request.get("draft") == "bad" else 200
        return status, {"kind": kind, "lang": language, "tab": tab, "request": request}

    def close(self) -> None:
        """Does nothing."""


@pytest.fixture
def board(tmp_path: Path) -> Board:
    folder = tmp_path / "work"
    folder.mkdir()
    made = make_board(folder)
    made.get_service("planner", EchoPlanner)
    return made


@pytest.fixture
def client(board: Board) -> TestClient:
    return make_client(board)


def test_requests_go_to_the_worker_with_language_and_tab(client: TestClient) -> None:
    found = client.post("/api/plan?lang=zh", json={"draft": {}, "seq": 1, "tab": "t" * 100})
    assert found.status_code == 200
    assert (found.json()["kind"], found.json()["lang"], found.json()["tab"]) == ("plan", "zh", "t" * 64)
    assert client.post("/api/data?lang=en", json={"draft": {}}).json()["kind"] == "data"
    assert client.get("/api/machine").json()["kind"] == "machine"
    assert client.post("/api/plan", json={"draft": "bad"}).status_code == 422
    assert client.get("/api/plan").status_code == 405


def test_plan_that_has_to_wait_is_a_sentence_with_status_202(board: Board, client: TestClient) -> None:
    class Busy:
        """Unpacks for ever."""

        def start(self) -> None:
            """Has begun."""

        async def describe_wait(self, request: dict[str, Any]) -> str | None:
            return "Wait." if request["draft"] == "large" else None

    board.get_service("preparation", Busy)
    for path in ("/api/plan", "/api/data"):
        found = client.post(path, json={"draft": "large"})
        assert (found.status_code, found.json()) == (202, {"preparing": "Wait."})
        assert client.post(path, json={"draft": {}}).status_code == 200
    assert client.get("/api/machine").status_code == 200


def test_cards_are_in_the_language_asked_for(client: TestClient) -> None:
    assert client.get("/api/cards?lang=zh").json()["cards"]["optim.lr"][0]["title"] == "学习率"
    assert client.get("/api/cards?lang=en").json()["cards"]["optim.lr"][0]["title"] == "Learning rate"


def test_words_yaml_run_and_file_are_opened(board: Board, client: TestClient) -> None:
    folder = board.roots.folders[0]
    run = folder / "runs" / "one"
    run.mkdir(parents=True)
    write_run(run, compose(["stage=dpo", "data=guide_preference", "optim.lr=1e-5"]))
    (folder / "lf.yaml").write_text("stage: sft\nlearning_rate: 1.0e-4\nfinetuning_type: lora\nuse_unsloth: true\n")
    want = {"choices": {"stage": "dpo", "data": "guide_preference"}, "values": {"optim.lr": "1e-5"}, "adds": {}}
    for body in (
        {"run": make_run_id(run)}, {"path": "runs/one"}, {"path": "runs/one/config.yaml"},
        {"words": "fulgurite train stage=dpo data=guide_preference optim.lr=1e-5"},
        {"words": ["stage=dpo", "data=guide_preference", "optim.lr=1e-5"]},
        {"yaml": "defaults: [{override /stage: dpo}, {override /data: guide_preference}]\noptim: {lr: 1e-5}"},
    ):
        assert client.post("/api/open", json=body).json() == {"draft": want, "notes": []}, body
    found = client.post("/api/open", json={"path": "lf.yaml"}).json()
    assert found["draft"]["values"]["optim.lr"] == "0.0001"
    assert any("use_unsloth" in note for note in found["notes"])


@pytest.mark.parametrize(("body", "status"), [
    ({}, 422), ({"run": "0" * 16}, 404), ({"path": "../x.yaml"}, 403), ({"path": "/etc/passwd"}, 403),
    ({"path": "none.yaml"}, 404), ({"words": "name='a"}, 422), ({"yaml": "["}, 422), ({"yaml": 3}, 422),
])
def test_what_cannot_be_opened_is_refused(client: TestClient, body: dict[str, Any], status: int) -> None:
    found = client.post("/api/open", json=body)
    assert found.status_code == status
    assert found.json()["error"]


def test_code_of_an_opened_config_needs_allow_code(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    body = {"words": "plugins=[evil] model=hf model.trust_remote_code=true stage=grpo 'stage.reward=[x.py:f]' seed=1"}
    found = make_client(make_board(folder)).post("/api/open", json=body).json()
    assert found["draft"]["values"] == {"seed": "1"}
    assert len(found["notes"]) == 3
    kept = make_client(make_board(folder, allow_code=True)).post("/api/open", json=body).json()
    assert set(kept["draft"]["values"]) == {"plugins", "model.trust_remote_code", "stage.reward", "seed"}
