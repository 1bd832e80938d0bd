"""docs/cluster.md: its files of SkyPilot, dstack and Kubeflow are read, and their commands are run with the variables
of each service. The services themselves are not there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.end_to_end.runs import losses, tiny
from tests.strategy.test_build import free_port
from torch.distributed.run import parse_args

from fulgurite.config.compose import compose

PAGE = Path(__file__).parents[2] / "docs" / "cluster.md"
WORDS = {
    "optim": "sgd", "optim.lr": "1e-3", "trainer.micro_batch_size": "2", "trainer.global_batch_size": "4",
    "trainer.max_steps": "3", "data.max_samples": "30", "data.val_fraction": "0", "stage.prompts": "[]",
    "precision": "fp32", "callback": "none", "plan.allow": "[steps.too-few]", "trainer.accelerator": "cpu",
}


def read_files() -> dict[str, Any]:
    """The YAML files of the page, by the heading before each."""
    text = PAGE.read_text(encoding="utf-8")
    return {
        heading: yaml.safe_load(block)
        for heading, block in re.findall(r"^## ([^\n]+)\n(?:(?!^## ).)*?^```yaml\n(.*?)^```", text, re.S | re.M)
    }


def get_command(service: str) -> str:
    found = read_files()[service]
    if service == "SkyPilot":
        return str(found["run"])
    if service == "dstack":
        return str(found["commands"][-1])
    return shlex.join(found["spec"]["trainer"]["command"])


VARIABLES = {
    "SkyPilot": {
        "SKYPILOT_NUM_NODES": "1", "SKYPILOT_NODE_RANK": "0", "SKYPILOT_NUM_GPUS_PER_NODE": "2",
        "SKYPILOT_NODE_IPS": "127.0.0.1\n127.0.0.2",
    },
    "dstack": {
        "DSTACK_NODES_NUM": "1", "DSTACK_NODE_RANK": "0", "DSTACK_GPUS_PER_NODE": "2",
        "DSTACK_MASTER_NODE_IP": "127.0.0.1",
    },
    "Kubeflow": {
        "PET_NNODES": "1", "PET_NODE_RANK": "0", "PET_NPROC_PER_NODE": "2", "PET_MASTER_ADDR": "127.0.0.1",
        "PET_MASTER_PORT": "29500",
    },
}


def test_every_file_is_read() -> None:
    files = read_files()
    assert list(files) == list(VARIABLES)
    assert (files["SkyPilot"]["num_nodes"], files["dstack"]["nodes"], files["dstack"]["type"]) == (2, 2, "task")
    trainer = files["Kubeflow"]["spec"]["trainer"]
    assert (files["Kubeflow"]["kind"], trainer["numNodes"]) == ("TrainJob", 2)
    assert trainer["resourcesPerNode"]["limits"] == {"nvidia.com/gpu": 8}


@pytest.mark.parametrize("service", VARIABLES)
def test_torchrun_gets_the_place_of_the_machine(
    service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torchrun").write_text("#!/bin/bash\nprintf '%s\\0' \"$@\"\n")
    (tmp_path / "torchrun").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    for name, value in VARIABLES[service].items():
        monkeypatch.setenv(name, value)
    command = ["bash", "-euo", "pipefail", "-c", get_command(service)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    given = parse_args(done.stdout.split("\0")[:-1])
    place = [given.nnodes, given.node_rank, given.nproc_per_node, given.master_addr, given.master_port]
    assert [str(value) for value in place] == ["1", "0", "2", "127.0.0.1", "29500"]
    assert (given.training_script, given.training_script_args[0]) == ("fulgurite", "train")
    assert compose(given.training_script_args[1:]).run.run_dir == "/shared/runs/one"


@pytest.mark.slow
@pytest.mark.parametrize("service", [
    "SkyPilot", *(pytest.param(name, marks=pytest.mark.matrix) for name in ("dstack", "Kubeflow")),
])
def test_the_command_trains_as_one_process_does(service: str, tmp_path: Path) -> None:
    one = tiny(tmp_path / "one", *(f"{name}={value}" for name, value in WORDS.items()))
    folder, port = tmp_path / "run", free_port()
    small = shlex.join(["model=tiny", *(f"{name}={value}" for name, value in WORDS.items())])
    command = get_command(service).replace("strategy=ddp", f"strategy=ddp {small}")
    command = command.replace("/shared/runs/one", str(folder)).replace("--master-port=29500", f"--master-port={port}")
    (tmp_path / "torchrun").write_text(f'#!/bin/bash\nexec {sys.executable} -m torch.distributed.run "$@"\n')
    (tmp_path / "torchrun").chmod(0o755)
    own = VARIABLES[service] | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    own |= {"PET_MASTER_PORT": port} if service == "Kubeflow" else {}
    done = subprocess.run(
        ["bash", "-e", "-c", command], env=os.environ | own, cwd=tmp_path, capture_output=True, text=True, check=False,
    )
    assert done.returncode == 0, done.stderr
    assert losses(folder) == pytest.approx(losses(one), rel=1e-6)
