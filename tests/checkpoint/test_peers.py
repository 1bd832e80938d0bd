"""Processes that exchange texts: what one raises, all raise."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.checkpoint.parts import build_peers, connect
from tests.strategy.together import run_together

from fulgurite.errors import CheckpointError, TrainingFailed


def exchange() -> list[str]:
    connect()
    peers = build_peers()
    found = peers.exchange(["", "zwei Äpfel", "一二三" * 100][peers.rank])
    assert peers.attempt(lambda: {"rank": peers.rank}) == [{"rank": 0}, {"rank": 1}, {"rank": 2}]
    assert peers.is_first == (torch.distributed.get_rank() == 0)
    return found


def test_texts_of_any_length_arrive_in_the_order_of_the_ranks() -> None:
    assert run_together(3, exchange) == [["", "zwei Äpfel", "一二三" * 100]] * 3


def fail() -> list[tuple[str, str]]:
    connect()
    peers = build_peers()
    errors: list[Exception] = [
        CheckpointError("{path} cannot be read: {error}; use an earlier checkpoint.", path="a", error="b"),
        ValueError("no such thing"),
    ]
    found = []

    def work(error: Exception) -> Any:
        if peers.rank == 1:
            raise error
        return peers.rank

    for error in errors:
        with pytest.raises((CheckpointError, TrainingFailed, ValueError)) as caught:
            peers.attempt(lambda error=error: work(error))  # type: ignore[misc]
        found.append((type(caught.value).__name__, str(caught.value)))
    return found


def test_the_error_of_one_process_is_raised_in_all() -> None:
    first, second = run_together(2, fail)
    sentence = "a cannot be read: b; use an earlier checkpoint."
    assert first == [("TrainingFailed", sentence), ("TrainingFailed", "Process 1 failed: ValueError: no such thing.")]
    assert second == [("CheckpointError", sentence), ("ValueError", "no such thing")]
