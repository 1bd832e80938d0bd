"""Server-sent events: a generator of events becomes an answer that ends when the browser leaves or the server ends."""

# sse-starlette does the same and more; what is needed here fits on one page.

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

from starlette.concurrency import iterate_in_threadpool
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from fulgurite.board.server.json_http import dump_json
from fulgurite.board.server.troubles import report_unexpected
from fulgurite.errors import FulguriteError

PING = 15.0
"""Seconds without an event after which a comment is sent, which tells a proxy and the browser that all is well."""
Event = tuple[str, Any] | tuple[str, Any, str]
"""The name of an event, its data, which is sent as JSON, and an id, which a browser that comes back sends as the header
Last-Event-ID."""


def stream(events: AsyncGenerator[Event] | Iterator[Event], ping: float = PING) -> Response:
    """Returns an answer that sends events. A FulguriteError of the generator becomes the event `error`.

    An iterator that is no async generator runs in a thread. The generator is closed at the end, whatever the end is.
    """
    return EventStream(events, ping)


class EventStream(Response):
    """The answer of `stream`."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[Event] | Iterator[Event], ping: float) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers({"x-accel-buffering": "no"})  # a proxy that gathers answers would hold events back
        self._events = events
        self._ping = ping
        self._last = time.monotonic()
        self._sending = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the events until there are no more, the browser has left, or the server ends."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return

        async def write(text: str) -> None:
            async with self._sending:
                await send({"type": "http.response.body", "body": text.encode("utf-8"), "more_body": True})
                self._last = time.monotonic()

        sender = asyncio.create_task(self._send_events(write))
        others = [asyncio.create_task(self._send_pings(write)), asyncio.create_task(_wait_for_end(receive))]
        if (state := getattr(scope.get("app"), "state", None)) is not None and hasattr(state, "board"):
            others.append(asyncio.create_task(state.board.closing.wait()))
        tasks = [sender, *others]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(OSError):
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_events(self, write: Callable[[str], Any]) -> None:
        events = self._events if isinstance(self._events, AsyncGenerator) else iterate_in_threadpool(self._events)
        try:
            await write(": open\n\n")
            async for event in events:
                await write(format_event(*event))
        except FulguriteError as error:
            await write(format_event("error", {"error": str(error)}))
        except Exception as error:
            await write(format_event("error", {"error": str(report_unexpected(error))}))
        finally:
            # An async generator that is only dropped would run its `finally` much later.
            if isinstance(events, AsyncGenerator):
                await events.aclose()

    async def _send_pings(self, write: Callable[[str], Any]) -> None:
        while True:
            rest = self._last + self._ping - time.monotonic()
            if rest <= 0:
                await write(": ping\n\n")
            else:
                await asyncio.sleep(rest)


async def _wait_for_end(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def format_event(name: str, data: Any, mark: str = "") -> str:
    """Returns an event as text; JSON has no line breaks, so its data is one line."""
    return f"event: {name}\n" + (f"id: {mark}\n" if mark else "") + f"data: {dump_json(data)}\n\n"
