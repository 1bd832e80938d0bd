"""Rank, local rank, node rank and world size: what each way of starting a run sets, and what is refused."""

from __future__ import annotations

import pytest

from fulgurite.errors import ConfigError
from fulgurite.strategy.ranks import Ranks, Starter, check_nodes, check_started, read_ranks, settle

TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none", "RANK": "3", "LOCAL_RANK": "1", "GROUP_RANK": "1", "WORLD_SIZE": "4",
    "LOCAL_WORLD_SIZE": "2",
}
SRUN = {
    "SLURM_NTASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_NODEID": "1", "SLURM_NNODES": "2",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)", "SLURM_STEP_ID": "0",
}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, Ranks()),
        (TORCHRUN, Ranks(Starter.torchrun, 3, 1, 1, 4, 2)),
        (SRUN, Ranks(Starter.slurm, 3, 1, 1, 4, 2)),
        (SRUN | {"SLURM_NTASKS_PER_NODE": "2"}, Ranks(Starter.slurm, 3, 1, 1, 4, 2)),
        (SRUN | TORCHRUN, Ranks(Starter.torchrun, 3, 1, 1, 4, 2)),  # srun starts torchrun on each machine
        (SRUN | {"SLURM_JOB_NAME": "bash"}, Ranks()),  # a shell inside a job
        (SRUN | {"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, Ranks()),
        # our own launcher, in the shell of a job: its ranks are not Slurm's tasks
        (SRUN | {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"},
         Ranks(Starter.launcher, 1, 1, 0, 2, 2)),
        # Kubeflow: a machine for each process
        ({"RANK": "1", "WORLD_SIZE": "2"}, Ranks(Starter.launcher, 1, 0, 1, 2, 1)),
        ({"RANK": "5", "LOCAL_RANK": "0"}, Ranks()),  # left by a shell
        ({"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "TORCHELASTIC_RUN_ID": "x"}, Ranks()),
        ({"NODE_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, Ranks(node_rank=1)),
    ],
)
def test_ranks_come_from_whoever_started_the_process(environment: dict[str, str], expected: Ranks) -> None:
    assert read_ranks(environment) == expected
    settled = dict(environment)
    assert settle(settled) == expected
    assert read_ranks(settled) == expected  # what was completed says the same
    if expected.world_size > 1:
        names = ("RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE")
        assert [int(settled[name]) for name in names] == [
            expected.rank,
            expected.local_rank,
            expected.node_rank,
            expected.world_size,
        ]
        assert settled["OMP_NUM_THREADS"]
    else:
        assert "RANK" not in settled


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"RANK": "one", "WORLD_SIZE": "2"}, "RANK=one in the environment is not a whole number"),
        (SRUN | {"SLURM_PROCID": "x"}, "SLURM_PROCID=x in the environment is not a whole number"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE=2 is set in the environment without RANK"),
        ({"RANK": "2", "WORLD_SIZE": "2", "LOCAL_RANK": "0"},
         "RANK=2 and WORLD_SIZE=2 in the environment contradict each other"),
        (TORCHRUN | {"WORLD_SIZE": "5"}, "torchrun started 5 processes, 2 of them on this machine"),
        ({name: SRUN[name] for name in SRUN if name != "SLURM_STEP_ID"} | {"ENVIRONMENT": "BATCH"},
         "write srun before it"),
    ],
)
def test_contradictions_are_refused(environment: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        read_ranks(environment)


def test_the_run_must_fit_what_was_started() -> None:
    check_started(2, 2, read_ranks(TORCHRUN))
    check_started(1, 1, Ranks())
    with pytest.raises(
        ConfigError, match=r"do not fit what torchrun started: 2 processes on each of 2 machines; leave both out"
    ):
        check_started(4, 1, read_ranks(TORCHRUN))
    with pytest.raises(ConfigError, match="This run needs 4 processes, and only this one was started"):
        check_started(2, 2, Ranks())


def test_several_machines_by_hand_need_their_place() -> None:
    place = {"NODE_RANK": "1", "MASTER_ADDR": "first", "MASTER_PORT": "29500"}
    check_nodes(2, 1, Ranks(), {})
    check_nodes(2, 2, read_ranks(place), place | {"WORLD_SIZE": "4"})
    with pytest.raises(ConfigError, match="needs NODE_RANK, MASTER_PORT in the environment"):
        check_nodes(2, 2, Ranks(), {"MASTER_ADDR": "first"})
    with pytest.raises(ConfigError, match="NODE_RANK=2 is too large for"):
        check_nodes(2, 2, Ranks(node_rank=2), place)
    with pytest.raises(ConfigError, match="WORLD_SIZE=3 in the environment contradicts"):
        check_nodes(2, 2, Ranks(node_rank=1), place | {"WORLD_SIZE": "3"})
