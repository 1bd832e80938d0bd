"""What the routes of the board share: the roots, the sessions, and the processes that are started when first needed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from fulgurite.board.roots import Roots
from fulgurite.board.server.session import Sessions

Service = TypeVar("Service")


@dataclass(slots=True)
class Board:
    """One board: what it may read, whether words that run code are allowed, and what it keeps.

    `hosts` are the values of the header Host that it answers to; `cache` is a folder of its own with mode 0700.
    """

    roots: Roots
    cache: Path
    sessions: Sessions
    port: int
    allow_code: bool = False
    scheme: str = "http"
    hosts: frozenset[str] = frozenset()
    print_address: Callable[[], object] = lambda: None
    """Prints a new address on the terminal."""
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the server ends: streams end with it."""
    _services: dict[str, Any] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def get_service(self, name: str, make: Callable[[], Service]) -> Service:
        """Returns the object of that name (`planner`, `chatter`, ...), which the first call makes."""
        with self._lock:
            if name not in self._services:
                self._services[name] = make()
            service: Service = self._services[name]
            return service

    async def end(self) -> None:
        """Awaits `end()` of every service that was made, or calls its `close()`, if it has one of them."""
        for service in self._take_services():
            if hasattr(service, "end"):
                await service.end()
            elif hasattr(service, "close"):
                service.close()

    def close(self) -> None:
        """Calls `close()` of the services that are left, without waiting for their processes."""
        for service in self._take_services():
            if hasattr(service, "close"):
                service.close()

    def _take_services(self) -> list[Any]:
        with self._lock:
            services = list(self._services.values())
            self._services.clear()
        return services
