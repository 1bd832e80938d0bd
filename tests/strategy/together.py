"""Several processes of one run, forked from this one: nothing is imported anew, so that a short run takes a second."""

from __future__ import annotations

import faulthandler
import gc
import multiprocessing
import os
import pickle
import socket
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, cast

import torch
from tests.end_to_end.runs import tiny

PATIENCE = 100.0
"""Seconds for one function."""


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def run_together(count: int, work: Callable[[], Any]) -> list[Any]:
    """What `work` returns in each of `count` processes, which find their ranks in the environment as under torchrun.

    Raises AssertionError with the traceback of the first process that fails.
    """
    assert not torch.distributed.is_initialized()
    fork, [port] = multiprocessing.get_context("fork"), free_ports(1)
    started = []
    for rank in range(count):
        reads, writes = fork.Pipe(duplex=False)
        child = fork.Process(target=_work, args=(rank, count, port, work, writes))
        child.start()
        writes.close()
        started.append((child, reads))
    found: dict[int, tuple[bool, Any]] = {}
    waiting = {reads: rank for rank, (_, reads) in enumerate(started)}
    try:
        while waiting and all(is_good for is_good, _ in found.values()):
            ready = wait(list(waiting), PATIENCE)
            found |= {waiting.pop(reads): _receive(reads) for reads in cast(list[Connection], ready)}
            assert ready, f"ranks {sorted(waiting.values())} did not end within {PATIENCE:g} s"
    finally:
        for child, _ in started:
            child.kill()
            child.join()
    failed = [f"rank {rank}: {result}" for rank, (is_good, result) in found.items() if not is_good]
    assert not failed, "\n".join(failed)
    return [found[rank][1] for rank in range(count)]


def _receive(reads: Connection) -> tuple[bool, Any]:
    try:
        # not recv: torch would share tensors through files, which are gone with the process
        answer: tuple[bool, Any] = pickle.loads(reads.recv_bytes())
    except EOFError:
        return False, "it ended without an answer"
    return answer


def _work(rank: int, count: int, port: int, work: Callable[[], Any], writes: Any) -> None:
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(count), LOCAL_WORLD_SIZE=str(count),
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
    )
    gc.freeze()  # a process group of the parent would wait for threads that were not forked
    faulthandler.dump_traceback_later(0.9 * PATIENCE)  # if it hangs
    try:
        answer = True, work()
    except BaseException as error:
        answer = False, "".join(traceback.format_exception(error))
    writes.send_bytes(pickle.dumps(answer))
    writes.close()


def train_together(count: int, *runs: tuple[Path, Sequence[str]]) -> None:
    """Runs of `tiny`, one after the other, each in `count` processes."""
    ports = free_ports(len(runs))

    def work() -> None:
        for port, (folder, words) in zip(ports, runs, strict=True):
            # the last run's store may still listen, and Lightning has removed the size
            os.environ.update(MASTER_PORT=str(port), WORLD_SIZE=str(count))
            tiny(folder, *words)

    run_together(count, work)
