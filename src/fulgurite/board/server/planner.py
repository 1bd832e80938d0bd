"""Owns the worker process that makes plans: passes one request at a time, and starts a worker again that died.

The newest request of a tab replaces those that wait: a person who types makes ten requests and reads the last answer.
"""

# concurrent.futures.ProcessPoolExecutor was considered: it cannot drop a request that runs too long without ending the
# pool, and a dead process breaks it for good.

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fulgurite.board.http_error import HttpError
from fulgurite.language.message import message

LIMIT = 300.0
"""Seconds that a request may take: the first plan of a model may have to convert it."""
MOST_WAITING = 16
HUB_TIMES = {"HF_HUB_ETAG_TIMEOUT": "5", "HF_HUB_DOWNLOAD_TIMEOUT": "10"}
"""Seconds that huggingface_hub waits for a server: without a network a person should not wait for its name either."""
LONGEST_LINE = 64 << 20
"""Bytes of the longest answer."""
Answer = tuple[int, dict[str, Any]]
SUPERSEDED: Answer = (409, {"superseded": True})


@dataclass(slots=True)
class Waiting:
    """A request and the answer that it waits for."""

    request: dict[str, Any]
    tab: str
    answer: asyncio.Future[Answer] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def settle(self, answer: Answer) -> None:
        """Gives the answer, unless whoever asked has gone."""
        if not self.answer.done():
            self.answer.set_result(answer)


class Planner:
    """The worker and the requests that wait for it."""

    def __init__(
        self, folders: Sequence[Path], base: Path, allow_code: bool = False, limit: float = LIMIT,
        command: Sequence[str] = (),
    ) -> None:
        words = [word for folder in folders for word in ("--root", str(folder))]
        module = [sys.executable, "-m", "fulgurite.board.worker.main"]
        self.command = [*(command or module), *words, *(["--allow-code"] if allow_code else [])]
        self.base, self.limit = base, limit
        self._process: asyncio.subprocess.Process | None = None
        self._queue: list[Waiting] = []
        self._running: Waiting | None = None
        self._task: asyncio.Task[None] | None = None
        self._number = 0

    async def ask(self, kind: str, request: dict[str, Any], language: str, tab: str = "") -> Answer:
        """Returns the status and the body of the answer. Raises HttpError 503 if there is none."""
        waiting = Waiting({**request, "kind": kind, "lang": language}, f"{kind} {tab}" if tab else "")
        if waiting.tab:
            for older in [entry for entry in (self._running, *self._queue) if entry and entry.tab == waiting.tab]:
                older.settle(SUPERSEDED)
            self._queue = [entry for entry in self._queue if not entry.answer.done()]
        if len(self._queue) >= MOST_WAITING:
            raise HttpError(503, message("Too many plans are waiting; try again in a moment."))
        self._queue.append(waiting)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work())
        status, body = await waiting.answer
        if status in (500, 503):
            raise HttpError(503, _explain(body))
        return status, body

    async def _work(self) -> None:
        """Passes the waiting requests to the worker, one after the other."""
        while self._queue:
            self._running = waiting = self._queue.pop(0)
            if waiting.answer.done():  # the browser closed the connection
                continue
            try:
                answer = await asyncio.wait_for(self._pass(waiting.request), self.limit)
            except TimeoutError:
                await self.end()
                answer = (503, {"why": "limit"})
            except Exception:  # whatever it is, nobody may wait for ever
                await self.end()
                answer = (503, {"why": "died"})
            waiting.settle(answer)
            self._running = None

    async def _pass(self, request: dict[str, Any]) -> Answer:
        """Sends a request and waits for its answer. Raises OSError or ValueError if the worker does not give one."""
        process = await self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        self._number += 1
        process.stdin.write(json.dumps({**request, "id": self._number}).encode() + b"\n")
        await process.stdin.drain()
        line = await process.stdout.readuntil(b"\n")
        answer = json.loads(line)
        # an answer to another request: the pipe is out of step, and only a new worker mends that
        if answer["id"] != self._number:
            raise ValueError(line[:100])
        return int(answer["status"]), dict(answer["body"])

    async def _start(self) -> asyncio.subprocess.Process:
        """Returns the worker that is up, or a new one. It ends when its input is closed, which the end of this process
        does as well."""
        if self._process is None or self._process.returncode is not None:
            # the later wins: times that a person has set stay, the number of threads does not
            environment = {**HUB_TIMES, **os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
            self._process = await asyncio.create_subprocess_exec(
                *self.command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=self.base,
                env=environment, limit=LONGEST_LINE, start_new_session=True,
            )
        return self._process

    async def end(self) -> None:
        """Ends the worker and waits for its end."""
        process = self._process
        self.close()
        if process is not None:
            await process.wait()

    def close(self) -> None:
        """Ends the worker; the next request starts another."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()


def _explain(body: dict[str, Any]) -> Any:
    if body.get("why") == "limit":
        return message("The plan took too long and was stopped; try again, or with fewer data (data.max_samples).")
    if body.get("why") == "died":
        return message("The process that makes plans ended; it is started again for the next plan.")
    return message("The plan failed with an error of its own, which the terminal of the board shows.")
