"""Two processes compute what one does, whoever starts them: torchrun, our command on two machines, Slurm. Three steps of a tiny model."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tests.end_to_end.runs import losses, tiny, weights

WORDS = [
    "method=full", "optim=sgd", "optim.lr=1e-3", "trainer.max_steps=3", "trainer.global_batch_size=5", "trainer.micro_batch_size=2",
    "data.max_samples=15", "data.val_fraction=0", "trainer.save_every=3",
]
COMMAND = ["-m", "fulgurite", "train", "model=tiny", "precision=fp32", "stage.prompts=[]", "plan.allow=[steps.too-few]", *WORDS]
ONE_THREAD = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def torchrun(folder: Path) -> Iterator[tuple[list[str], dict[str, str]]]:
    """One agent, two processes, and no word about them to our command."""
    agent = ["-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}"]
    yield [*agent, *COMMAND], {}


def machines(folder: Path) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Our command once on each of two machines, which are both this one."""
    port = free_port()
    for node in "01":
        yield [*COMMAND, "trainer.num_nodes=2"], {"NODE_RANK": node, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}


def srun(folder: Path) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Two tasks of a Slurm job."""
    shared = {
        "SLURM_JOB_ID": "4711", "SLURM_JOB_NAME": "train", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "2", "SLURM_NNODES": "1",
        "SLURM_NODEID": "0", "SLURM_NODELIST": "127.0.0.1", "MASTER_PORT": free_port(), "MASTER_ADDR": "127.0.0.1",
    }
    for task in "01":
        yield COMMAND, shared | {"SLURM_PROCID": task, "SLURM_LOCALID": task}


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("one"), *WORDS)


@pytest.mark.slow
@pytest.mark.parametrize("start", [torchrun, machines, srun])
def test_two_processes_are_one_whoever_starts_them(start: object, one: Path, tmp_path: Path) -> None:
    """Nobody gives them a folder: the first process names it for both."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "TORCHELASTIC"))}
    started = [
        subprocess.Popen([sys.executable, *command], env=clean | ONE_THREAD | own, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        for command, own in start(tmp_path)  # type: ignore[operator]
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
    assert "takes ddp: 2 processes share each step" in said[0]
    assert losses(folder) == pytest.approx(losses(one), rel=1e-6)
    for name, tensor in weights(one).items():
        torch.testing.assert_close(weights(folder)[name], tensor, rtol=1e-6, atol=1e-7)
