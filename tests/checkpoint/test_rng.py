"""Every generator goes on where it was; each rank has its own state; bytes are gathered, not pickles."""

import logging
import random
import socket
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tests.checkpoint.toy_training import digest, run_rank
from tests.forked import start_fork_server

from fulgurite.checkpoint import rng
from fulgurite.errors import CheckpointError

CPU = torch.device("cpu")


def draws() -> list[float]:
    python, numpy = (random.random(), random.gauss(0, 1)), (np.random.rand(), np.random.randn())
    return [*python, *numpy, float(torch.rand(())), float(torch.randn(()))]


def test_the_same_draws_follow():
    state = rng.capture(CPU)
    first = [draws() for _ in range(700)]  # more than the 624 words that the Mersenne twister makes at a time
    rng.restore(state, CPU)
    assert [draws() for _ in range(700)] == first


def test_the_second_of_a_pair_of_gaussians_is_kept():
    random.seed(1)
    np.random.seed(1)
    random.gauss(0, 1)
    np.random.randn()
    state = rng.capture(CPU)
    assert state["python_gauss"][0] == 1
    assert state["numpy_position"][1] == 1
    expected = random.gauss(0, 1), np.random.randn()
    rng.restore(state, CPU)
    assert (random.gauss(0, 1), np.random.randn()) == expected


def test_a_state_is_a_copy():
    state = rng.capture(CPU)
    before = {name: tensor.clone() for name, tensor in state.items()}
    draws()
    assert all(torch.equal(state[name], before[name]) for name in before)


def test_the_states_of_all_ranks_are_gathered_in_order():
    mine = rng.capture(CPU)
    draws()
    other = rng.capture(CPU)

    def gather(flat):
        assert flat.dtype == torch.uint8
        second = torch.cat([t.reshape(-1).view(torch.uint8) for t in other.values()])
        return torch.stack([flat, second])

    strategy = SimpleNamespace(world_size=2, root_device=CPU, all_gather=gather)
    states = rng.gather(mine, strategy)
    assert len(states) == 2
    assert [plain(state) for state in states] == [plain(mine), plain(other)]
    assert rng.select_rank(states, 1, 2) is states[1]


def plain(state):
    return {name: (tensor.dtype, tensor.tolist()) for name, tensor in state.items()}


def test_another_number_of_processes_is_refused_unless_it_is_allowed():
    state = rng.capture(CPU)
    with pytest.raises(CheckpointError, match="written by 2 processes and this run has 1"):
        rng.select_rank([state, state], 0, 1)
    states = [state, dict(state)]
    assert rng.select_rank(states, 0, 1, ["trainer.devices"]) is states[0]
    assert [rng.select_rank(states, rank, 3, ["trainer.devices"]) for rank in range(3)][2] is states[0]


def test_another_kind_of_device_is_logged(caplog):
    state = rng.capture(CPU) | {"cuda": torch.zeros(16, dtype=torch.uint8)}
    with caplog.at_level(logging.WARNING):
        rng.restore(state, CPU)
    assert "written on a GPU and this run uses cpu" in caplog.text


@pytest.mark.gpu
def test_the_gpus_generator():
    device = torch.device("cuda", 0)
    state = rng.capture(device)
    first = torch.randn(8, device=device)
    rng.restore(state, device)
    assert torch.equal(torch.randn(8, device=device), first)


def two_ranks(run: Path, *words: str) -> list[int]:
    """The exit statuses of two processes that train together."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    context = start_fork_server()
    given = [str(run), "processes=2", "epochs=2", *words]
    ranks = [
        context.Process(target=run_rank, args=(given, shared | {"LOCAL_RANK": str(r), "RANK": str(r)})) for r in (0, 1)
    ]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(120)
    return [rank.exitcode for rank in ranks]


@pytest.mark.slow
def test_two_processes_resume_each_with_its_own_noise(tmp_path):
    """Dropout differs between the ranks, so a rank that took up the other's state would end elsewhere."""
    assert two_ranks(tmp_path / "whole") == [0, 0]
    assert two_ranks(tmp_path / "cut", "stop=3") == [143, 143]  # rank 1 alone is signalled
    assert two_ranks(tmp_path / "cut") == [0, 0]
    assert digest(tmp_path / "cut") == digest(tmp_path / "whole")
