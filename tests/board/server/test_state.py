"""Services are made once, and closed with the board."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.board.server.client import make_board


class Service:
    """Counts how often it is closed."""

    closed = 0

    def close(self) -> None:
        """Is called by the board."""
        self.closed += 1


def test_service_is_made_once_and_closed(tmp_path: Path) -> None:
    board = make_board(tmp_path)
    service = board.get_service("planner", Service)
    assert board.get_service("planner", Service) is service
    board.get_service("plain", object)
    board.close()
    board.close()
    assert service.closed == 1
    assert board.get_service("planner", Service) is not service


def test_end_waits_for_a_service_that_can_be_waited_for(tmp_path: Path) -> None:
    class Process(Service):
        ended = 0

        async def end(self) -> None:
            """Is awaited by the board."""
            self.ended += 1

    board = make_board(tmp_path)
    process, service = board.get_service("planner", Process), board.get_service("chatter", Service)
    asyncio.run(board.end())
    asyncio.run(board.end())
    assert (process.ended, process.closed, service.closed) == (1, 0, 1)
