"""A real tiny run of the board: started, followed over a killed server, stopped, resumed, talked with (T30)."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from tests.board.browser.board_process import BoardProcess
from tests.board.run_folders import wait_until
from tests.board.server.client import make_board
from tests.forked import ForkedCommand

from fulgurite.board.launches import Launches
from fulgurite.board.server.run_services import RunServices
from fulgurite.board.server.run_start import start_run
from fulgurite.logger.metrics_file import read_rows
from fulgurite.plan.rules import RULES

STEPS, SLOW = 120, 180.0
ALLOWED = f"[{','.join(rule.id for rule in RULES.values() if rule.insist)}]"
DRAFT = {
    "choices": {"model": "tiny", "precision": "fp32"},
    "values": {
        "data.max_samples": "60", "trainer.max_steps": str(STEPS), "trainer.global_batch_size": "4",
        "stage.prompts": "[]", "data.val_fraction": "0.1", "trainer.eval_every": "60", "trainer.save_every": "1000",
        "plan.allow": ALLOWED,
    },
}


class Browser:
    """A browser that has opened the printed address."""

    def __init__(self, board: BoardProcess) -> None:
        self.board = board
        self.client = httpx.Client()
        self.open()

    def open(self) -> None:
        """Opens the newest address."""
        self.close()
        origin = self.board.origin
        self.client = httpx.Client(base_url=origin, headers={"origin": origin}, timeout=60)
        self.client.get(self.board.address)

    def close(self) -> None:
        self.client.close()

    def get(self, path: str) -> Any:
        found = self.client.get(path)
        assert found.status_code == 200, found.text
        return found.json()

    def post(self, path: str, body: dict[str, Any]) -> Any:
        found = self.client.post(path, json=body)
        assert found.status_code == 202, found.text
        return found.json()


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BoardProcess]:
    folder = tmp_path_factory.mktemp("board")
    process = BoardProcess(folder, folder / "cache").start()
    yield process
    process.kill()


@pytest.fixture(scope="module")
def page(board: BoardProcess) -> Iterator[Browser]:
    browser = Browser(board)
    yield browser
    browser.close()


def read_losses(folder: Path) -> list[tuple[int, float]]:
    return [(row["step"], row["train/loss"]) for row in read_rows(folder / "metrics.jsonl")[0] if "train/loss" in row]


def list_session(leader: int) -> list[int]:
    """The processes of the session that a process leads, or led, without those that only wait to be asked for."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (OSError, psutil.Error):
            continue
    return found


@pytest.mark.slow
def test_run_survives_the_board_is_stopped_by_the_next_one_and_resumed_exactly(
    board: BoardProcess, page: Browser
) -> None:
    launch = page.post("/api/runs", {"draft": DRAFT, "name": "mine"})["launch"]
    address = f"/api/launches/{launch['id']}"
    wait_until(lambda: page.get(address)["state"] != "starting", SLOW)
    run = page.get(address)["run"]
    assert run, page.get(address)
    wait_until(lambda: page.get(f"/api/runs/{run}")["steps"] >= 3, SLOW)

    board.kill()
    board.start()
    page.open()
    shown = page.get(f"/api/runs/{run}")
    assert (shown["state"], shown["live"], shown["total_steps"], shown["name"]) == ("running", True, STEPS, "mine")
    assert page.get(address)["state"] == "running"
    record = json.loads(next((board.cache / "board" / "launches").glob("*.json")).read_text())

    page.post(f"/api/runs/{run}/stop", {})
    asked = time.monotonic()
    wait_until(lambda: not list_session(record["pid"]), SLOW)
    assert time.monotonic() - asked < 10
    shown, ended = page.get(f"/api/runs/{run}"), page.get(address)
    assert (shown["state"], shown["can_resume"]) == ("stopped", True)
    assert (ended["state"], ended["exit"]) == ("ended", 130)
    assert 3 <= shown["checkpoint"] < STEPS

    again = page.post(f"/api/runs/{run}/resume", {})["launch"]
    wait_until(lambda: page.get(f"/api/launches/{again['id']}")["state"] == "ended", SLOW)
    shown = page.get(f"/api/runs/{run}")
    assert (shown["state"], shown["steps"], shown["can_resume"]) == ("finished", STEPS, False)

    words = [word for word in record["words"][1:] if not word.startswith("run_dir=")]
    whole = ForkedCommand(
        ["train", *words, f"run_dir={board.runs / 'whole'}"], cwd=board.folder, env=board.environment
    )
    written = whole.communicate(SLOW)
    assert whole.returncode == 0, written
    assert read_losses(board.runs / "whole") == read_losses(Path(record["folder"]))
    curve = page.get(f"/api/runs/{run}/metrics?points=800")["series"]["train/loss"]
    assert [tuple(point) for point in curve] == read_losses(Path(record["folder"]))


@pytest.mark.slow
def test_chat_streams_what_the_command_prints(board: BoardProcess, page: Browser) -> None:
    run = next(run for run in page.get("/api/runs")["runs"] if run["state"] == "finished")
    body = {"messages": [{"role": "user", "content": "What is a warmup?"}], "max_new_tokens": 8}
    lines = page.client.post(f"/api/runs/{run['id']}/chat", json=body).text.splitlines()
    data = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    assert "note" in data[-1], data
    command = ["chat", f"run={board.runs / run['folder']}", "temperature=0", "max_new_tokens=8"]
    printed, _ = ForkedCommand(command, env=board.environment, typed="What is a warmup?\n").communicate(SLOW)
    text = "".join(piece.get("text", "") for piece in data[:-1])
    note = f" ({data[-1]['note']})" if data[-1]["note"] else ""
    assert printed == f"> What is a warmup?\n{text}{note}\n"


@pytest.mark.slow
def test_a_refused_run_shows_its_sentence_and_leaves_no_folder(board: BoardProcess, page: Browser) -> None:
    draft = {"choices": {"data": "file"}, "values": {"data.path": "runs/missing.jsonl"}}
    launch = page.post("/api/runs", {"draft": draft})["launch"]
    address = f"/api/launches/{launch['id']}"
    wait_until(lambda: page.get(address)["state"] == "ended", SLOW)
    found = page.get(address)
    assert (found["exit"], found["run"]) == (2, None)
    assert "missing.jsonl" in found["error"]
    assert found["output"] == f"error: {found['error']}"
    record = json.loads((board.cache / "board" / "launches" / f"{launch['id']}.json").read_text())
    wait_until(lambda: not Path(record["folder"]).exists())


@pytest.mark.slow
def test_a_killed_run_is_shown_as_died_and_leaves_no_process(tmp_path: Path) -> None:
    services = RunServices(make_board(tmp_path))
    launch = start_run(services, {"draft": DRAFT})["launch"]
    record = services.launches.find(launch["id"])
    status = Path(record.folder) / "status.json"
    wait_until(lambda: status.exists() or not services.launches.is_alive(record), SLOW)
    [run] = services.catalogue.list_runs()
    assert run.is_live
    found = json.loads(status.read_text())
    assert found["host"] == socket.gethostname()
    os.kill(found["pid"], signal.SIGKILL)
    wait_until(lambda: not list_session(record.pid), 10)
    other = Launches(services.board.cache / "launches", tmp_path)
    assert other.read_exit(record) == 128 + signal.SIGKILL
    [run] = services.catalogue.list_runs()
    assert (run.summary.state, services.describe_launch(record)["state"]) == ("died", "ended")
