"""Foreign code ends in bounded time and memory, and cannot swallow the alarm."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Callable

import pytest

from fulgurite.data.timeout import LimitExceeded, run_bounded

SECOND, MEGABYTES = 0.3, 256 << 20


def endless() -> None:
    while True:
        pass


def swallowing() -> None:
    """Catches whatever it can, as constant folding in Jinja does, and goes on."""
    for _ in range(3):
        try:
            endless()
        except Exception:
            continue


def swallowing_once() -> None:
    """Catches even the alarm; it rings again."""
    try:
        endless()
    except BaseException:
        endless()


def greedy() -> int:
    return len("x".center(4_000_000_000))


@pytest.mark.parametrize("work", [endless, swallowing, swallowing_once, lambda: 7 ** (7**8)])
def test_time_is_bounded(work: Callable[[], object]) -> None:
    start = time.perf_counter()
    with pytest.raises(LimitExceeded, match=r"took longer than 0\.3 seconds"):
        run_bounded(work, SECOND, MEGABYTES)
    assert time.perf_counter() - start < 5


def test_memory_is_bounded_and_the_limit_is_taken_back() -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(LimitExceeded, match="needed more than 256 MB of memory"):
        run_bounded(greedy, SECOND, MEGABYTES)
    assert resource.getrlimit(resource.RLIMIT_AS) == before
    assert len(bytearray(300 << 20)) == 300 << 20


def test_a_lower_limit_of_the_process_stays() -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    low = 64 << 40
    resource.setrlimit(resource.RLIMIT_AS, (low, before[1]))
    try:
        assert run_bounded(lambda: resource.getrlimit(resource.RLIMIT_AS)[0], SECOND, MEGABYTES) < low
        assert resource.getrlimit(resource.RLIMIT_AS)[0] == low
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_results_and_errors_pass() -> None:
    assert run_bounded(lambda: 3, SECOND, MEGABYTES) == 3
    with pytest.raises(ZeroDivisionError):
        run_bounded(lambda: 1 / 0, SECOND, MEGABYTES)
    time.sleep(0)  # no alarm is left behind
    assert run_bounded(lambda: 4, 0.01, MEGABYTES) == 4


def test_in_a_thread_time_and_memory_are_bounded_too() -> None:
    found: list[str] = []
    before = resource.getrlimit(resource.RLIMIT_AS)

    def run() -> None:
        for work in (endless, swallowing_once, greedy):
            try:
                run_bounded(work, SECOND, MEGABYTES)
            except LimitExceeded as error:
                found.append(str(error))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(found) == 6
    assert sum("MB of memory" in said for said in found) == 2
    assert resource.getrlimit(resource.RLIMIT_AS)[0] == before[0]
