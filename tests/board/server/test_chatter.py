"""The server's side of the chat, with a small process in place of the one that loads a model."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from fulgurite.board.server.chatter import MOST_TOKENS, Chatter, read_conversation
from fulgurite.errors import ConfigError

STUB = """
import json, os, sys, threading, time
run = os.path.basename(sys.argv[1])
def write(line): print(json.dumps(line), flush=True)
if run == "broken": write({"error": "It has no checkpoint."}); sys.exit(1)
if run == "dies": os.kill(os.getpid(), 9)
write({"ready": True})
cancelled = set()
def answer(asked):
    if asked["messages"][-1]["content"] == "die": os._exit(1)
    write({"id": asked["id"], "text": run})
    if asked["messages"][-1]["content"] == "long":
        while asked["id"] not in cancelled: time.sleep(0.01)
    write({"id": asked["id"], "done": True, "stopped": True, "note": asked["lang"], "text": run})
for line in sys.stdin:
    found = json.loads(line)
    if "cancel" in found: cancelled.add(found["cancel"])
    else: threading.Thread(target=answer, args=(found,)).start()
"""


@pytest.fixture
def chatter(tmp_path: Path) -> Chatter:
    (tmp_path / "stub.py").write_text(STUB)
    return Chatter([sys.executable, "-I", str(tmp_path / "stub.py")])


def run(talk: Callable[[], Awaitable[Any]], chatter: Chatter) -> Any:
    async def whole() -> Any:
        try:
            return await asyncio.wait_for(talk(), 30)
        finally:
            await chatter.end()

    return asyncio.run(whole())


async def ask(chatter: Chatter, folder: str, text: str = "hi") -> list[tuple[str, Any]]:
    messages = [{"role": "user", "content": text}]
    return [event async for event in chatter.answer(Path(folder), messages, 5)]


def test_a_run_is_loaded_once_and_answers(chatter: Chatter) -> None:
    async def talk() -> Any:
        return await ask(chatter, "/r/a"), await ask(chatter, "/r/a")

    first, second = run(talk, chatter)
    assert first == [("loading", {}), ("token", {"text": "a"}), ("done", {"stopped": True, "note": "en", "text": "a"})]
    assert second == first[1:]


def test_another_run_takes_the_place_of_the_first(chatter: Chatter) -> None:
    async def talk() -> Any:
        await ask(chatter, "/r/a")
        old = chatter._process
        events = await ask(chatter, "/r/b")
        assert old is not None
        return await old.wait(), events

    status, events = run(talk, chatter)
    assert status == -9
    assert events[1] == ("token", {"text": "b"})


def test_a_question_about_another_run_ends_an_answer_with_a_sentence(chatter: Chatter) -> None:
    async def talk() -> Any:
        slow = asyncio.create_task(ask(chatter, "/r/a", "long"))
        while chatter._process is None:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        return await ask(chatter, "/r/b"), await slow

    fast, slow = run(talk, chatter)
    assert fast[-1][0] == "done"
    assert slow[-1][0] == "error"
    assert "ask again" in slow[-1][1]["error"]


def test_leaving_early_cancels_the_answer_and_the_next_question_is_answered(chatter: Chatter) -> None:
    async def talk() -> Any:
        await ask(chatter, "/r/a")
        events = chatter.answer(Path("/r/a"), [{"role": "user", "content": "long"}], 5)
        assert await anext(events) == ("token", {"text": "a"})
        await events.aclose()
        return await ask(chatter, "/r/a")

    assert [name for name, _ in run(talk, chatter)] == ["token", "done"]


@pytest.mark.parametrize(
    ("folder", "sentence"), [("/r/broken", "It has no checkpoint."), ("/r/dies", "memory ran out")]
)
def test_a_run_that_cannot_be_loaded_is_one_sentence(chatter: Chatter, folder: str, sentence: str) -> None:
    events = run(lambda: ask(chatter, folder), chatter)
    assert [name for name, _ in events] == ["loading", "error"]
    assert sentence in events[1][1]["error"]


def test_a_process_that_ends_is_started_again(chatter: Chatter) -> None:
    """After ten idle minutes, or because it was killed."""

    async def talk() -> Any:
        return await ask(chatter, "/r/a", "die"), await ask(chatter, "/r/a")

    first, second = run(talk, chatter)
    assert first[-1] == ("error", {"error": "The process that answers has ended; ask again."})
    assert [name for name, _ in second] == ["loading", "token", "done"]


def test_the_process_ends_with_the_server(tmp_path: Path) -> None:
    """Also if the server is killed: the worker reads the end of its pipe."""
    from fulgurite.board.worker import chat

    code = f"import sys; sys.path[:] = {sys.path!r}; from {chat.__name__} import _follow_server; " \
        "import queue; _follow_server(sys.stdin, queue.Queue(), set())"
    reads, writes = os.pipe()
    begin = time.monotonic()
    pid = os.posix_spawn(sys.executable, [sys.executable, "-c", code], os.environ,
                         file_actions=[(os.POSIX_SPAWN_DUP2, reads, 0), (os.POSIX_SPAWN_CLOSE, writes)])
    os.close(reads)
    os.close(writes)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert time.monotonic() - begin < 60


USER = {"role": "user", "content": "hi"}


@pytest.mark.parametrize("body", [
    {}, {"messages": []}, {"messages": "hi"}, {"messages": [7]}, {"messages": [{"role": "user"}]},
    {"messages": [{"role": "tool", "content": "x"}]}, {"messages": [USER, {"role": "assistant", "content": "x"}]},
    {"messages": [USER, {"role": "system", "content": "x"}, USER]}, {"messages": [USER], "max_new_tokens": 0},
    {"messages": [USER], "max_new_tokens": MOST_TOKENS + 1}, {"messages": [USER], "max_new_tokens": True},
    {"messages": [{"role": "user", "content": "x" * 400_001}]}, {"messages": [USER] * 401},
])
def test_other_conversations_are_refused(body: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        read_conversation(body)


def test_a_conversation_is_taken_as_it_is() -> None:
    given = [{"role": "system", "content": "s"}, USER, {"role": "assistant", "content": ""}, USER]
    assert read_conversation({"messages": given, "max_new_tokens": 9}) == (given, 9)
