"""What a board does before the first plan: plans that need the bundled model get a sentence, the others do not wait."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from fulgurite.board.http_error import HttpError
from fulgurite.board.server.preparation import Preparation, needs_bundled_model
from fulgurite.language.message import message

SLEEPS, ENDS = "import time; time.sleep(60)", ""
TINY, BUNDLED = {"draft": {"choices": {"model": "tiny"}}}, {"draft": {"choices": {"model": "smollm2_135m"}}}


class StubPlanner:
    """Answers at once whether the model has to be unpacked."""

    def __init__(self, unpacks: bool | None) -> None:
        self.unpacks, self.asked = unpacks, 0

    async def ask(self, kind: str, request: dict[str, Any], language: str, tab: str = "") -> tuple[int, dict[str, Any]]:
        self.asked += 1
        assert kind == "prepare"
        if self.unpacks is None:
            raise HttpError(503, message("It ended."))
        return 200, {"unpacks": self.unpacks}


def run(unpacks: bool | None, folder: Path, act: Callable[[Preparation], Awaitable[Any]], code: str = SLEEPS) -> Any:
    planner: Any = StubPlanner(unpacks)

    async def whole() -> Any:
        made = Preparation(planner, folder, [sys.executable, "-c", code])
        try:
            return await act(made)
        finally:
            await made.end()

    found = asyncio.run(whole())
    assert planner.asked == 1
    return found


def test_only_plans_with_the_bundled_model_wait_while_it_is_unpacked(tmp_path: Path) -> None:
    async def act(made: Preparation) -> Any:
        return [await made.describe_wait(request) for request in (BUNDLED, TINY, {"draft": {}}, {"draft": "x"})]

    bundled, tiny, default, broken = run(True, tmp_path, act)
    assert "being unpacked" in str(bundled)
    assert tiny is None
    assert "0 s have passed" in str(default)
    assert broken is None  # it is refused with a sentence of its own


def test_plans_are_made_once_the_model_is_there(tmp_path: Path) -> None:
    async def act(made: Preparation) -> Any:
        await made.start()
        assert made._process is not None
        await made._process.wait()
        return await made.describe_wait(BUNDLED)

    assert run(True, tmp_path, act, ENDS) is None


@pytest.mark.parametrize("unpacks", [False, None])
def test_nothing_waits_if_the_model_is_there_or_the_worker_fails(unpacks: bool | None, tmp_path: Path) -> None:
    async def act(made: Preparation) -> Any:
        return await made.describe_wait(BUNDLED)

    assert run(unpacks, tmp_path, act) is None


def test_process_ends_with_the_board(tmp_path: Path) -> None:
    async def act(made: Preparation) -> Any:
        await made.describe_wait(BUNDLED)
        return made._process

    assert run(True, tmp_path, act).returncode is not None


def test_default_model_is_the_bundled_one() -> None:
    assert needs_bundled_model({})
    assert not needs_bundled_model(TINY)


@pytest.mark.parametrize("request_body", [{"draft": 3}, {"draft": []}, {"draft": {"choices": []}}])
def test_a_draft_of_a_wrong_shape_does_not_wait(request_body: dict[str, Any]) -> None:
    assert not needs_bundled_model(request_body)
    assert needs_bundled_model({})
