"""A rollout that several processes share is that of one process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor

from fulgurite.stage.rollout import Drawn
from fulgurite.stage.rollout_share import Share, generate_shared, share_rewards

CPU = torch.device("cpu")


class Engine:
    """Answers a portion by its seed, the position of the portion and the prompts."""

    def __init__(self) -> None:
        self.portions: list[int] = []

    def generate(self, prompts: Sequence[Sequence[int]], seed: Sequence[int], first: int = 0) -> Drawn:
        drawn = Drawn()
        for start in range(0, len(prompts), 3):  # the engine's own portions, as one process makes them
            self.portions.append(first + start)
            for n, prompt in enumerate(prompts[start : start + 3]):
                tokens = [seed[0] + first + start, *prompt][: 1 + n]
                drawn.tokens.append(tokens)
                drawn.log_probs.append([-0.1 * token for token in tokens])
                drawn.stopped.append(n % 2 == 0)
        return drawn

    def close(self) -> None:
        """Does nothing."""


def run_processes(count: int, work: Callable[[Share], Any]) -> list[Any]:
    """Runs `work` once for each process, as threads whose sums wait for each other."""
    barrier, parts = threading.Barrier(count), {}

    def run(rank: int) -> Any:
        def all_reduce(value: Tensor) -> Tensor:
            parts[rank] = value.clone()
            barrier.wait(timeout=20)
            value.copy_(torch.stack([parts[n] for n in range(count)]).sum(0))
            barrier.wait(timeout=20)
            return value

        return work(Share(rank, count, CPU, all_reduce))

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


@pytest.mark.parametrize("prompts", [1, 7, 12])
@pytest.mark.parametrize("processes", [2, 3])
def test_answers_of_several_processes_are_those_of_one(prompts: int, processes: int) -> None:
    asked = [[n, n + 1, n + 2] for n in range(prompts)]
    alone = Engine().generate(asked, [5])
    engines = {rank: Engine() for rank in range(processes)}
    found = run_processes(
        processes, lambda share: generate_shared(engines[share.rank], asked, [5], 3, 4, share)
    )
    for drawn in found:
        assert drawn.tokens == alone.tokens
        assert drawn.stopped == alone.stopped
        for mine, theirs in zip(drawn.log_probs, alone.log_probs, strict=True):
            assert mine == pytest.approx(theirs, rel=1e-6)
    made = [portion for engine in engines.values() for portion in engine.portions]
    assert sorted(made) == list(range(0, prompts, 3))  # each once, by one of them


def test_rewards_are_computed_once_and_known_everywhere() -> None:
    calls = []

    def compute() -> tuple[list[float], dict[str, list[float]]]:
        calls.append(1)
        return [0.5, -1.25], {"a": [0.25, -1.0], "b": [0.25, -0.25]}

    found = run_processes(2, lambda share: share_rewards(compute, ["a", "b"], 2, share))
    assert found[0] == found[1] == ([0.5, -1.25], {"a": [0.25, -1.0], "b": [0.25, -0.25]})
    assert len(calls) == 1


def test_one_process_asks_nobody() -> None:
    def refuse(value: Tensor) -> Tensor:
        raise AssertionError

    share = Share(0, 1, CPU, refuse)
    assert generate_shared(Engine(), [[1], [2]], [5], 3, 4, share) == Engine().generate([[1], [2]], [5])
    assert share_rewards(lambda: ([1.0], {"a": [1.0]}), ["a"], 1, share) == ([1.0], {"a": [1.0]})
