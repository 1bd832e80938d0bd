"""Routes of the runs, launches and chat."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.board.run_folders import make_run, wait_until, write_rows
from tests.board.server.client import make_board, make_client

from fulgurite.board.launches import Launches
from fulgurite.board.roots import make_run_id
from fulgurite.board.server import run_routes
from fulgurite.board.server.state import Board
from fulgurite.config.overrides import quote_verbatim

STUB = """
import json, signal, sys, time
print(json.dumps(sys.argv[1:]), flush=True)
signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
while "waits" in sys.argv[-1]: time.sleep(0.05)
"""


@pytest.fixture
def board(tmp_path: Path) -> Board:
    (tmp_path / "stub.py").write_text(STUB)
    (tmp_path / "root").mkdir()
    made = make_board(tmp_path / "root")
    command = [sys.executable, "-I", str(tmp_path / "stub.py")]
    made.get_service("launches", lambda: Launches(made.cache / "launches", made.roots.base, command))
    return made


@pytest.fixture
def client(board: Board) -> Iterator[TestClient]:
    with make_client(board) as browser:
        yield browser


def root(board: Board) -> Path:
    return board.roots.folders[0]


def test_list_has_runs_differences_searches_and_launches(board: Board, client: TestClient) -> None:
    for rate in (1e-4, 1e-3):
        make_run(root(board) / "runs" / f"r{rate}", knobs={"optim.lr": rate})
    (root(board) / "search").mkdir()
    (root(board) / "search" / "trials.jsonl").write_text('{"trial": 0, "state": "complete", "value": 1.0}\n')
    found = client.get("/api/runs").json()
    assert set(found) == {"runs", "differences", "sweeps", "launches"}
    assert sorted(run["folder"] for run in found["runs"]) == ["runs/r0.0001", "runs/r0.001"]
    assert set(found["differences"]["optim.lr"].values()) == {1e-4, 1e-3}
    assert found["sweeps"][0]["best"] == 0


def test_run_and_its_metrics_are_found_by_id(board: Board, client: TestClient) -> None:
    folder = make_run(root(board) / "a", losses=[2.0] * 50)
    write_rows(folder, [{"step": 33, "rule": "x", "severity": "note", "sentence": "S.", "remedy": ""}], "watch.jsonl")
    address = f"/api/runs/{make_run_id(folder)}"
    shown = client.get(address).json()
    assert (shown["state"], shown["findings"][0]["step"], shown["output"]) == ("finished", 33, "")
    metrics = client.get(f"{address}/metrics?points=16").json()
    assert metrics["rows"] == 50
    assert 33 in [step for step, _ in metrics["series"]["train/loss"]]
    assert client.get(f"{address}?lang=zh").json()["state_text"] == "已完成"


@pytest.mark.parametrize("name", ["0" * 16, "a", "%00", "..%2f..%2fa", "a%252fb"])
def test_unknown_run_is_404_on_every_route(board: Board, client: TestClient, name: str) -> None:
    make_run(root(board) / "a")
    for path in ("", "/metrics", "/events"):
        assert client.get(f"/api/runs/{name}{path}").status_code == 404
    for path in ("stop", "resume", "export", "chat"):
        body = {"messages": [{"role": "user", "content": "x"}]}
        assert client.post(f"/api/runs/{name}/{path}", json=body).status_code == 404


@pytest.mark.parametrize("points", ["x", "-1", "0", "99999", "1e3", "²", ""])
def test_wrong_number_of_points_is_one_sentence(board: Board, client: TestClient, points: str) -> None:
    folder = make_run(root(board) / "a")
    found = client.get(f"/api/runs/{make_run_id(folder)}/metrics?points={points}")
    assert found.status_code == 422
    assert "points" in found.json()["error"]


def read_events(text: str) -> list[tuple[str, Any, str]]:
    found = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "event" in lines:
            found.append((lines["event"], json.loads(lines["data"]), lines.get("id", "")))
    return found


def stop_after(board: Board, monkeypatch: pytest.MonkeyPatch, polls: int) -> None:
    """Ends each stream after so many looks."""
    real = run_routes.follow

    async def follow(poll: Any) -> Any:
        left = [polls]

        def look() -> Any:
            if not left[0]:
                board.closing.set()
            left[0] -= 1
            return poll() if left[0] >= 0 else []

        async for event in real(look):
            yield event

    monkeypatch.setattr(run_routes, "choose_wait", lambda *_: 0.0)
    monkeypatch.setattr(run_routes, "follow", follow)


def test_a_page_that_is_left_open_is_sent_what_is_new_less_often() -> None:
    waits = [run_routes.choose_wait(listened, 0.001) for listened in (0.0, 10.0, 40.0, 3600.0)]
    assert waits == [1.0, 1.0, 2.0, 5.0]
    assert [run_routes.choose_wait(0.0, cost) for cost in (0.03, 0.3)] == [pytest.approx(3.0), 5.0]


def test_what_a_look_costs_decides_when_the_next_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    costs: list[float] = []

    def choose(listened: float, cost: float) -> float:
        costs.append(cost)
        return 0.0

    def work() -> list[Any]:
        end = time.thread_time() + 0.02
        while time.thread_time() < end:
            pass
        return [("runs", {})]

    async def take() -> None:
        events = run_routes.follow(work)
        for _ in range(3):
            await anext(events)
        await events.aclose()

    monkeypatch.setattr(run_routes, "choose_wait", choose)
    asyncio.run(take())
    assert len(costs) == 2
    assert all(0.02 <= cost < 0.1 for cost in costs)


def test_stream_begins_with_the_curves_and_goes_on_after_the_last_id(
    board: Board, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_run(root(board) / "a")
    stop_after(board, monkeypatch, 1)
    address = f"/api/runs/{make_run_id(folder)}/events"
    status, reset = read_events(client.get(address).text)
    assert (status[0], reset[0], reset[2]) == ("status", "reset", reset[1]["after"])
    write_rows(folder, [{"step": 4, "train/loss": 1.0}])
    after = client.get(f"{address.removesuffix('/events')}/metrics").json()["after"]
    write_rows(folder, [{"step": 5, "train/loss": 1.0}])
    for asked in ({"headers": {"last-event-id": reset[2]}}, {"params": {"after": after}}):
        board.closing.clear()
        events = read_events(client.get(address, **asked).text)
        steps = [row["step"] for row in next(data for name, data, _ in events if name == "rows")["rows"]]
        assert steps == ([4, 5] if "headers" in asked else [5])


def test_list_stream_tells_of_a_new_run(board: Board, client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fulgurite.board.runs.SCAN_EVERY", 0.0)
    polls = []

    def poll(self: Any) -> list[Any]:
        polls.append(1)
        if len(polls) == 2:
            board.closing.set()
        return [("runs", {"runs": 1})]

    monkeypatch.setattr(run_routes.ListWatcher, "poll", poll)
    assert read_events(client.get("/api/events").text)[0][:2] == ("runs", {"runs": 1})


def test_resume_starts_the_command_and_its_launch_is_shown(board: Board, client: TestClient) -> None:
    folder = make_run(root(board) / "it's a run", state="stopped", checkpoint=2)
    shown = client.post(f"/api/runs/{make_run_id(folder)}/resume", json={})
    assert shown.status_code == 202
    launch = shown.json()["launch"]
    assert (launch["kind"], launch["run"], launch["exit"]) == ("resume", make_run_id(folder), None)
    address = f"/api/launches/{launch['id']}"
    wait_until(lambda: client.get(address).json()["state"] == "ended")
    found = client.get(address).json()
    words = json.loads(found["output"].splitlines()[0])
    assert words == ["train", f"resume.run={quote_verbatim(folder)}"]
    assert found["exit"] == 0
    assert [one["id"] for one in client.get("/api/runs").json()["launches"]] == [launch["id"]]


def test_a_finished_run_is_not_resumed(board: Board, client: TestClient) -> None:
    folder = make_run(root(board) / "a", checkpoint=3)
    found = client.post(f"/api/runs/{make_run_id(folder)}/resume?lang=zh", json={})
    assert found.status_code == 422
    assert found.json()["error"] == "这次训练已经完成（第 3 步），没有可继续的部分。"


def test_a_second_run_is_refused_politely_and_started_anyway(board: Board, client: TestClient) -> None:
    first, second = (make_run(root(board) / name, state="stopped", checkpoint=2) for name in ("waits", "b"))
    record = board.get_service("launches", Launches).start("resume", ["waits"], first)
    address = f"/api/runs/{make_run_id(second)}/resume"
    refused = client.post(address, json={})
    assert refused.status_code == 422
    assert refused.json()["error"].startswith("waits is training on this machine")
    assert refused.json()["anyway"] is True
    assert client.post(address, json={"anyway": True}).status_code == 202
    stopped = client.post(f"/api/launches/{record.id}/stop", json={})
    assert (stopped.status_code, stopped.json()["launch"]["stopping"]) in [(202, True), (202, False)]
    wait_until(lambda: client.get(f"/api/launches/{record.id}").json()["state"] == "ended")


@pytest.mark.parametrize(("body", "name", "merge"), [
    ({}, "export-merged", "true"), ({"format": "adapter"}, "export-adapter", "false"),
])
def test_export_goes_to_a_new_folder_in_the_run(
    board: Board, client: TestClient, body: dict[str, str], name: str, merge: str
) -> None:
    folder = make_run(root(board) / "a", checkpoint=3)
    outs = []
    for _ in range(2):
        launch = client.post(f"/api/runs/{make_run_id(folder)}/export", json=body).json()["launch"]
        wait_until(lambda launch=launch: client.get(f"/api/launches/{launch['id']}").json()["state"] == "ended")
        words = json.loads(client.get(f"/api/launches/{launch['id']}").json()["output"].splitlines()[0])
        assert [words[0], words[1], words[3]] == ["export", f"run={folder}", f"merge={merge}"]
        outs.append(Path(words[2].removeprefix("out=")))
        outs[-1].mkdir(exist_ok=True)
        (outs[-1] / "model").write_text("")
    assert [out.relative_to(folder) for out in outs] == [Path(name), Path(f"{name}-2")]


@pytest.mark.parametrize("format", ["gguf", "../x", 7, None])
def test_another_format_is_refused(board: Board, client: TestClient, format: Any) -> None:
    folder = make_run(root(board) / "a", checkpoint=3)
    assert client.post(f"/api/runs/{make_run_id(folder)}/export", json={"format": format}).status_code == 422
    assert not list(folder.glob("export*"))


def test_a_launch_of_another_board_is_not_shown(board: Board, client: TestClient, tmp_path: Path) -> None:
    record = board.get_service("launches", Launches).start("train", [], tmp_path / "elsewhere")
    assert client.get(f"/api/launches/{record.id}").status_code == 404
    assert client.get("/api/runs").json()["launches"] == []
    assert client.post(f"/api/launches/{record.id}/stop", json={}).status_code == 404


def test_chat_streams_tokens(board: Board, client: TestClient) -> None:
    folder = make_run(root(board) / "a", checkpoint=3)

    class Answering:
        async def answer(self, run: Path, messages: Any, most: int) -> Any:
            assert (run, most) == (folder, 9)
            for word in messages[-1]["content"].split():
                yield "token", {"text": word}
            yield "done", {}

    board.get_service("chatter", Answering)
    body = {"messages": [{"role": "user", "content": "a <b>"}], "max_new_tokens": 9}
    found = client.post(f"/api/runs/{make_run_id(folder)}/chat", json=body)
    assert [event[:2] for event in read_events(found.text)] == [
        ("token", {"text": "a"}), ("token", {"text": "<b>"}), ("done", {}),
    ]
    assert client.post(f"/api/runs/{make_run_id(folder)}/chat", json={"messages": []}).status_code == 422
