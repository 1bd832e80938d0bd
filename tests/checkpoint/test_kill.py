"""kill -9 at every thing that is done to the checkpoint folder, and at random instants: it ends as if never killed.

The children come from a fork server that has imported the run once, so that a kill costs a fraction of a second.
"""

import multiprocessing
import os
import random
import shutil
import signal
from pathlib import Path

import pytest
from tests.checkpoint import toy_training
from tests.checkpoint.toy_training import digest, train
from tests.forked import start_fork_server

from fulgurite.checkpoint import io
from fulgurite.errors import Interrupted
from fulgurite.files import atomic

SAVES = {"save_every": 1, "eval_every": 2, "keep": 1}
OWN = ("sync", "publish_folder", "remove_folder", "replace_link")
PLACES = ((io, "_save"), (shutil, "rmtree"), *((atomic, name) for name in OWN))


def half(name, words):
    """What a kill in the middle of this call leaves: half a file, or half of a folder deleted."""
    if name == "_save":
        Path(words[1]).write_bytes(b"\0" * 50)
    if name == "rmtree":
        next(iter(Path(words[0]).iterdir())).unlink()


def dies_at(run: Path, instant: int, epochs: int) -> None:
    """Train, and die just before (odd: in the middle of) the `instant`-th thing that is done to the folder."""
    count = 0

    def deadly(module, name):
        real = getattr(module, name)

        def call(*words, **more):
            nonlocal count
            count += 1
            if count == instant:
                if instant % 2:
                    half(name, words)
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*words, **more)

        setattr(module, name, call)

    for module, name in PLACES:
        deadly(module, name)
    train(run, epochs=epochs, **SAVES)


def goes_slowly(run: Path) -> None:
    """Train with checkpoints that take their time, for a kill to find one in the middle."""
    toy_training.slowed(0.004)
    train(run, **SAVES)


def stops(run: Path) -> None:
    """Train until a signal comes."""
    toy_training.slowed(0.002)
    try:
        train(run, **SAVES)
    except Interrupted as interrupted:
        os._exit(interrupted.exit_status)


def child(target, *words, delay: float | None = None, number: int = signal.SIGKILL) -> int:
    """The exit status of `target` in a process of its own, which gets the signal after `delay` seconds."""
    process = multiprocessing.get_context("forkserver").Process(target=target, args=words)
    process.start()
    process.join(delay)
    if process.is_alive():
        os.kill(process.pid, number)
    process.join(120)
    assert process.exitcode is not None
    return process.exitcode


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    start_fork_server()
    run = tmp_path_factory.mktemp("whole")
    train(run, **SAVES)
    return digest(run)


def same_as(whole, run: Path) -> None:
    assert digest(run) == whole
    assert list((run / "checkpoints").glob("*tmp*")) == []


def killed_and_resumed(whole, run: Path, instant: int, epochs: int = 3) -> bool:
    """Whether it was killed at all; then the same command again ends like the run that never was."""
    status = child(dies_at, run, instant, epochs)
    assert status in (0, -signal.SIGKILL)
    if status:
        train(run, epochs=epochs, **SAVES)
    same_as(whole, run)
    return bool(status)


@pytest.mark.parametrize("instant", [5, 30, 63])
def test_killed_inside_the_write(tmp_path, whole, instant):
    assert killed_and_resumed(whole, tmp_path, instant)


@pytest.mark.slow
def test_killed_at_every_instant_of_the_write(tmp_path, whole):
    train(tmp_path / "whole", epochs=1, **SAVES)
    short, instant = digest(tmp_path / "whole"), 1
    while killed_and_resumed(short, tmp_path / str(instant), instant, epochs=1):
        instant += 1
    assert instant > 35  # three checkpoints of four files, each written, made durable, sealed, published and linked


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=[pytest.mark.slow, pytest.mark.matrix])])
def test_killed_at_random_again_and_again(tmp_path, whole, kills):
    draw = random.Random(kills)
    statuses = [child(goes_slowly, tmp_path, delay=draw.uniform(0.05, 0.8)) for _ in range(kills)]
    assert -signal.SIGKILL in statuses
    train(tmp_path, **SAVES)
    same_as(whole, tmp_path)


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=[pytest.mark.slow, pytest.mark.matrix])])
def test_asked_to_stop_at_random_again_and_again(tmp_path, whole, kills):
    draw = random.Random(kills)
    for _ in range(kills):
        number = draw.choice([signal.SIGTERM, signal.SIGINT])
        # before the run listens a signal ends the process as it ends any other
        status = child(stops, tmp_path, delay=draw.uniform(0.1, 0.6), number=number)
        assert status in (0, 143 if number == signal.SIGTERM else 130, -signal.SIGTERM, 1)
    train(tmp_path, **SAVES)
    same_as(whole, tmp_path)
