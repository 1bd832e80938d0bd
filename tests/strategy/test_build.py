"""Two processes compute what one does, whoever starts them: torchrun, our command on two machines, Slurm."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from lightning.pytorch.plugins.environments import (
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning.pytorch.strategies import DDPStrategy
from tests.end_to_end.runs import losses, rows, tiny, weights
from tests.forked import ForkedCommand

from fulgurite.config.compose import compose
from fulgurite.errors import ConfigError
from fulgurite.strategy.build import (
    PATIENCE,
    build_auto,
    build_ddp,
    cluster_environment,
    join_processes,
    share_text,
)
from fulgurite.strategy.ranks import Ranks, Starter

SGD = ["optim=sgd", "optim.lr=1e-3", "trainer.micro_batch_size=2"]
# 9 examples a step: the processes get 5 and 4, with different numbers of labels
NINE = [
    "trainer.global_batch_size=9",
    "trainer.max_steps=4",
    "data.max_samples=45",
    "trainer.eval_every=2",
    "data.val_fraction=0.1",
]
# 7 rows, 2 a step: in the epoch's last step the second process has none, and each row is trained once
SEVEN = ["trainer.global_batch_size=2", "trainer.max_steps=5", "data.max_samples=7", "trainer.eval_every=1000"]
COMMAND = [
    "-m",
    "fulgurite",
    "train",
    "model=tiny",
    "precision=fp32",
    "stage.prompts=[]",
    "plan.allow=[steps.too-few]",
    *SGD,
]
ONE_THREAD = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def torchrun() -> Iterator[tuple[list[str], dict[str, str]]]:
    """One agent, two processes, and no word about them to our command."""
    agent = ["-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}"]
    yield [*agent, *COMMAND], {}


def machines() -> Iterator[tuple[list[str], dict[str, str]]]:
    """Our command once on each of two machines, which are both this one."""
    port = free_port()
    for node in "01":
        yield [*COMMAND, "trainer.num_nodes=2"], {"NODE_RANK": node, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}


def srun() -> Iterator[tuple[list[str], dict[str, str]]]:
    """Two tasks of a Slurm job."""
    shared = {
        "SLURM_JOB_ID": "4711",
        "SLURM_JOB_NAME": "train",
        "SLURM_STEP_ID": "0",
        "SLURM_NTASKS": "2",
        "SLURM_NNODES": "1",
        "SLURM_NODEID": "0",
        "SLURM_NODELIST": "127.0.0.1",
        "MASTER_PORT": free_port(),
        "MASTER_ADDR": "127.0.0.1",
    }
    for task in "01":
        yield COMMAND, shared | {"SLURM_PROCID": task, "SLURM_LOCALID": task}


STARTS = {
    "torchrun": (torchrun, ["method=full", *SEVEN]),
    "machines": (machines, ["method=lora", *NINE]),
    "srun": (srun, ["method=full", *NINE]),
}


def start_process(
    command: list[str], folder: Path, env: dict[str, str], forks: bool
) -> ForkedCommand | subprocess.Popen[str]:
    """Starts a command; Slurm gives its tasks nothing but the environment, so that they may come from a fork."""
    if forks:
        return ForkedCommand(command[2:], cwd=folder, env=env)
    return subprocess.Popen([sys.executable, *command], env=env, cwd=folder, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
# test_cluster.py starts torchrun too, with what the page of a service passes to it.
@pytest.mark.parametrize("name", ["machines", "srun", pytest.param("torchrun", marks=pytest.mark.matrix)])
def test_two_processes_are_one_whoever_starts_them(name: str, tmp_path: Path) -> None:
    """Nobody gives them a folder: the first process names it for both."""
    start, words = STARTS[name]
    one = tiny(tmp_path / "one", *SGD, *words)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "TORCHELASTIC"))}
    started = [
        start_process([*command, *words], tmp_path, clean | ONE_THREAD | own, forks=name == "srun")
        for command, own in start()
    ]
    try:
        said = [process.communicate(timeout=240)[1] for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert [process.returncode for process in started] == [0] * len(started), said
    [folder] = [path.parent for path in (tmp_path / "runs").rglob("status.json")]
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    assert " on 2 × cpu (" in said[0]
    assert losses(folder) == pytest.approx(losses(one), rel=1e-6)
    evaluated = [[row["val/loss"] for row in rows(place) if "val/loss" in row] for place in (one, folder)]
    assert len(evaluated[0]) == (2 if "trainer.eval_every=2" in words else 0)
    assert evaluated[1] == pytest.approx(evaluated[0], rel=1e-6)
    for name, tensor in weights(one).items():
        torch.testing.assert_close(weights(folder)[name], tensor, rtol=1e-6, atol=1e-7)


def test_auto_is_ddp_for_several_processes_and_lightnings_own_choice_for_one() -> None:
    strategy = compose([]).run.strategy
    assert build_auto(strategy, 1) == "auto"
    for made in (build_auto(strategy, 2), build_ddp(strategy, 1)):
        assert isinstance(made, DDPStrategy)
        assert made._timeout == PATIENCE


@pytest.mark.parametrize(("processes", "searches"), [(2, False), (3, True)])
def test_buckets_keep_their_order_if_the_order_of_a_sum_matters(processes: int, searches: bool) -> None:
    """tests/strategy/table.py shows what it is for: three processes resume bit for bit."""
    assert build_ddp(compose([]).run.strategy, processes)._ddp_kwargs == {"find_unused_parameters": searches}


@pytest.mark.parametrize(("starter", "kind"), [
    (Starter.command, LightningEnvironment), (Starter.launcher, LightningEnvironment),
    (Starter.torchrun, TorchElasticEnvironment), (Starter.slurm, SLURMEnvironment),
])
def test_the_environment_is_that_of_who_started_the_processes(
    starter: Starter, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slurm's variables around our own command are not taken for ranks, and a job is not requeued with a pickle."""
    for name, value in (next(srun())[1] | {"SLURM_NTASKS_PER_NODE": "2"}).items():
        monkeypatch.setenv(name, value)
    made = cluster_environment(Ranks(starter, 1, 1, 0, 2, 2))
    assert type(made) is kind
    assert not getattr(made, "auto_requeue", False)


def test_a_single_process_shares_nothing_and_a_gpu_run_takes_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    for name in [n for n in os.environ if n.startswith(("SLURM_", "TORCHELASTIC")) or n in ("RANK", "WORLD_SIZE")]:
        monkeypatch.delenv(name)
    assert join_processes(None, None, "cpu") == Ranks()
    assert taken == []
    assert join_processes(1, 1, "cuda") == Ranks()
    assert taken == [0]
    with pytest.raises(ConfigError, match="This run needs 2 processes, and only this one was started"):
        join_processes(2, 1, "cpu")
    assert share_text("runs/a", Ranks(), "cpu") == "runs/a"
    assert not torch.distributed.is_initialized()
