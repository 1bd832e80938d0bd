"""The worker process: one request at a time, the newest of a tab, a death, a limit."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from fulgurite.board.http_error import HttpError
from fulgurite.board.server.planner import Planner

WORKER = """
import json, os, sys, time
count = 0
for line in sys.stdin:
    request = json.loads(line)
    count += 1
    if request["kind"] == "die":
        os._exit(3)
    if request["kind"] == "hang":
        time.sleep(60)
    if request["kind"] == "odd":
        print("{}", flush=True)
        continue
    if request["kind"] == "babble":
        print("no json", flush=True)
        continue
    status = 500 if request["kind"] == "fail" else 200
    print(json.dumps({"id": request["id"], "status": status, "body": {"count": count, "of": request.get("n"),
                      "lang": request["lang"], "pid": os.getpid()}}), flush=True)
"""


def run(folder: Path, ask: Any, limit: float = 30.0) -> Any:
    async def whole() -> Any:
        planner = Planner([folder], folder, limit=limit, command=[sys.executable, "-c", WORKER])
        try:
            return await ask(planner)
        finally:
            await planner.end()

    return asyncio.run(whole())


def test_requests_are_answered_in_turn_by_one_process(tmp_path: Path) -> None:
    async def ask(planner: Planner) -> list[Any]:
        return list(await asyncio.gather(*(planner.ask("plan", {"n": n}, "zh", f"tab {n}") for n in range(5))))

    answers = run(tmp_path, ask)
    assert [status for status, _ in answers] == [200] * 5
    assert [body["of"] for _, body in answers] == list(range(5))
    assert [body["count"] for _, body in answers] == [1, 2, 3, 4, 5]
    assert {body["lang"] for _, body in answers} == {"zh"}


def test_newest_request_of_a_tab_replaces_those_that_wait(tmp_path: Path) -> None:
    async def ask(planner: Planner) -> list[Any]:
        other = planner.ask("plan", {"n": 99}, "en", "other")
        data = planner.ask("data", {"n": 98}, "en", "mine")
        mine = [planner.ask("plan", {"n": n}, "en", "mine") for n in range(6)]
        return list(await asyncio.gather(other, data, *mine))

    answers = run(tmp_path, ask)
    assert [status for status, _ in answers] == [200, 200, 409, 409, 409, 409, 409, 200]
    assert answers[3][1] == {"superseded": True}
    assert answers[-1][1]["of"] == 5
    assert answers[-1][1]["count"] <= 3  # those that waited were never made


async def refuse(answer: Coroutine[Any, Any, Any]) -> str:
    with pytest.raises(HttpError) as caught:
        await answer
    assert caught.value.status == 503
    return str(caught.value)


@pytest.mark.parametrize("kind", ["die", "babble", "odd"])
def test_dead_worker_is_started_again(kind: str, tmp_path: Path) -> None:
    async def ask(planner: Planner) -> Any:
        _, before = await planner.ask("plan", {}, "en")
        sentence = await refuse(planner.ask(kind, {}, "en"))
        return before, sentence, (await planner.ask("plan", {}, "en"))[1]

    before, sentence, after = run(tmp_path, ask)
    assert "started again" in sentence
    assert after["pid"] != before["pid"]


def test_request_has_a_limit(tmp_path: Path) -> None:
    async def ask(planner: Planner) -> Any:
        sentence = await refuse(planner.ask("hang", {}, "en"))
        planner.limit = 30
        return sentence, (await planner.ask("plan", {}, "en"))[0]

    sentence, status = run(tmp_path, ask, limit=0.5)
    assert "too long" in sentence
    assert status == 200


def test_error_of_the_worker_is_a_sentence_and_it_goes_on(tmp_path: Path) -> None:
    async def ask(planner: Planner) -> Any:
        return await refuse(planner.ask("fail", {}, "en")), (await planner.ask("plan", {}, "en"))[1]["count"]

    sentence, count = run(tmp_path, ask)
    assert "terminal" in sentence
    assert count == 2


def test_command_names_folders_and_what_is_allowed(tmp_path: Path) -> None:
    planner = Planner([tmp_path], tmp_path, allow_code=True)
    assert planner.command[1:] == ["-m", "fulgurite.board.worker.main", "--root", str(tmp_path), "--allow-code"]
    planner.close()
