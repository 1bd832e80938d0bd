"""Talks to the process that answers as a run. It is started with the first question, and has one run loaded."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import sys
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

from fulgurite.errors import ConfigError, RequestError
from fulgurite.language.current import VARIABLE, get_language
from fulgurite.language.library_errors import translate_system_error
from fulgurite.language.message import message

WORKER = (sys.executable, "-m", "fulgurite.board.worker.chat")
ROLES = ("system", "user", "assistant")
MOST_MESSAGES, MOST_CHARACTERS, MOST_TOKENS = 400, 400_000, 8192
LONGEST_LINE = 1 << 22

Event = tuple[str, Any]


class Chatter:
    """The chat process of a board. One question is answered at a time; one about another run ends the process."""

    def __init__(self, command: Sequence[str] = WORKER) -> None:
        self._command = tuple(command)
        self._lock = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._run: Path | None = None
        self._numbers = itertools.count(1)

    async def answer(self, run: Path, messages: list[dict[str, str]], most: int) -> AsyncGenerator[Event]:
        """Yields the events `loading`, `token`, `done` and `error`. If it is closed early, the answer is cancelled."""
        if self._run not in (None, run):
            self.close()  # the one who waits for an answer of the other run gets a sentence
        async with self._lock:
            process = self._process
            if process is None or process.returncode is not None or self._run != run:
                yield "loading", {}
                process = await self._start(run)
                if error := await self._wait_until_ready(process):
                    await self.end()
                    yield "error", {"error": error}
                    return
            number = next(self._numbers)
            asked = {"id": number, "messages": messages, "max_new_tokens": most, "lang": get_language()}
            ended = False
            try:
                _send(process, asked)
                async for event in _read_answer(process, number):
                    ended = event[0] != "token"
                    yield event
            finally:
                if not ended:  # the browser has left
                    with contextlib.suppress(OSError, RuntimeError):
                        _send(process, {"cancel": number})

    async def _start(self, run: Path) -> asyncio.subprocess.Process:
        await self.end()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, str(run), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL, env=os.environ | {VARIABLE: get_language()}, limit=LONGEST_LINE,
                start_new_session=True,
            )
        except OSError as error:
            raise RequestError("The chat cannot be started: {reason}.", reason=translate_system_error(error)) from error
        self._run = run
        return self._process

    async def _wait_until_ready(self, process: asyncio.subprocess.Process) -> str:
        """Returns the sentence of an error; empty once the run is loaded."""
        line = await _read_line(process)
        if line is None:
            return str(await _describe_end(process))
        return "" if line.get("ready") else str(line.get("error", ""))

    async def end(self) -> None:
        """Ends the process and waits for its end."""
        process = self._process
        self.close()
        if process is not None:
            await process.wait()

    def close(self) -> None:
        """Ends the process."""
        process, self._process, self._run = self._process, None, None
        if process is not None and process.returncode is None:
            # its event loop may be closed already
            with contextlib.suppress(ProcessLookupError, RuntimeError):
                process.kill()


async def _read_answer(process: asyncio.subprocess.Process, number: int) -> AsyncGenerator[Event]:
    while True:
        line = await _read_line(process)
        if line is None:
            yield "error", {"error": str(await _describe_end(process))}
            return
        if line.get("id") != number:
            continue  # of an answer that was cancelled
        if "error" in line:
            yield "error", {"error": line["error"]}
            return
        if "done" in line:
            yield "done", {name: line.get(name) for name in ("stopped", "note", "text")}
            return
        yield "token", {"text": line["text"]}


async def _read_line(process: asyncio.subprocess.Process) -> dict[str, Any] | None:
    """Returns the next line of the process; None at its end."""
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        return None
    found: dict[str, Any] = json.loads(line)
    return found


async def _describe_end(process: asyncio.subprocess.Process) -> Any:
    status = await process.wait()
    # a negative status is the number of the signal that ended it: ours, or that of a system without memory
    if status < 0:
        return message("The process that answers was ended, by another question or because memory ran out; ask again.")
    return message("The process that answers has ended; ask again.")


def _send(process: asyncio.subprocess.Process, line: dict[str, Any]) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(line).encode() + b"\n")


def read_conversation(body: dict[str, Any]) -> tuple[list[dict[str, str]], int]:
    """Returns the messages and the longest answer of a request. Raises ConfigError."""
    given, most = body.get("messages"), body.get("max_new_tokens", 512)
    # nothing of the body is trusted: the types are tested before anything is read from them
    right = isinstance(given, list) and 0 < len(given) <= MOST_MESSAGES and all(isinstance(m, dict) for m in given)
    messages = [{"role": m.get("role"), "content": m.get("content")} for m in given] if right and given else []
    if not all(m["role"] in ROLES and isinstance(m["content"], str) for m in messages) or not messages:
        raise ConfigError("messages must be a list of objects with role and content.")
    if messages[-1]["role"] != "user" or any(m["role"] == "system" for m in messages[1:]):
        raise ConfigError("The last message must be the user's; a system message can only be the first one.")
    if sum(len(m["content"]) for m in messages) > MOST_CHARACTERS:
        raise ConfigError("The conversation is longer than {most:,} characters; begin a new one.", most=MOST_CHARACTERS)
    if type(most) is not int or not 1 <= most <= MOST_TOKENS:
        raise ConfigError("max_new_tokens must be a whole number from 1 to {most}.", most=MOST_TOKENS)
    return messages, most
