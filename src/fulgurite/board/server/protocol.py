"""uvicorn's HTTP protocol with the limits that it lacks: slow heads, clients that do not read, too many connections."""

# hypercorn has such limits, but needs five more packages; uvicorn's own `limit_concurrency` answers without our
# headers.

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from fulgurite.board.server.security import HEADERS

MOST_CONNECTIONS = 128
HEAD_SECONDS = 10.0
"""Seconds in which the head of a request has to arrive, counted from its first byte or from the connection."""
STALL_SECONDS = 30.0
"""Seconds after which a client that does not read its answer is cut off."""
MOST_HEAD_BYTES = 16 << 10


class LimitedProtocol(H11Protocol):
    """A connection."""

    head_seconds = HEAD_SECONDS
    stall_seconds = STALL_SECONDS
    most_connections = MOST_CONNECTIONS

    _head_timer: asyncio.TimerHandle | None = None
    _stall_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins to wait for the head of a request."""
        super().connection_made(transport)
        if len(self.connections) > self.most_connections:
            transport.abort()
        else:
            self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops the timers."""
        self._stop_head_timer()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Reads what came; a request that is not complete has its time from the first byte on."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_head_timer()
        elif self._head_timer is None and not self.transport.is_closing():
            self._start_head_timer()

    def on_response_complete(self) -> None:
        """Drops a client that still sends the body of a request which is answered already."""
        self._stop_head_timer()
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY and not self.transport.is_closing():
            self.transport.close()

    def pause_writing(self) -> None:
        """Is called if the client does not read."""
        super().pause_writing()
        if self._stall_timer is None:
            self._stall_timer = self.loop.call_later(self.stall_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Is called if the client reads again."""
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Answers what is no HTTP at all, with the headers of every other answer."""
        self._stop_head_timer()
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):  # in the middle of an answer
            self.transport.abort()
            return
        body = b'{"error":"Not a valid HTTP request.","words":""}'
        headers: list[tuple[str, Any]] = [
            *HEADERS.items(), ("cache-control", "no-store"), ("content-type", "application/json"),
            ("content-length", str(len(body))), ("connection", "close"),
        ]
        for event in (h11.Response(status_code=400, headers=headers, reason=b"Bad Request"), h11.Data(data=body),
                      h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _start_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(self.head_seconds, self.transport.abort)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
