"""A Slurm job: its number, and its way back into the queue."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from fulgurite.strategy.slurm_job import SlurmJob, find_job, requeue_job


@pytest.mark.parametrize(("environment", "expected"), [
    ({}, None), ({"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "bash"}, None),
    ({"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "train"}, SlurmJob("7", 0)),
    ({"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "2"}, SlurmJob("7", 2)),
])
def test_the_job_is_read_from_the_environment(environment: dict[str, str], expected: SlurmJob | None) -> None:
    assert find_job(environment) == expected


def write_scontrol(folder: Path, body: str) -> Path:
    """A fake scontrol, which writes its words to a file."""
    program = folder / "scontrol"
    program.write_text(f'#!/bin/bash\necho "$@" >> "{folder}/asked"\n{body}\n')
    program.chmod(0o755)
    return folder / "asked"


def test_a_job_is_requeued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = write_scontrol(tmp_path, "kill -TERM $PPID; exit 0")  # as Slurm does to the processes of the job
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    before = signal.getsignal(signal.SIGTERM)
    assert str(requeue_job(SlurmJob("7"))).startswith("Slurm job 7 is back in the queue")
    assert asked.read_text() == "requeue 7\n"
    assert signal.getsignal(signal.SIGTERM) is before


def test_what_slurm_refuses_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    write_scontrol(tmp_path, "echo 'Requested operation is presently disabled' >&2; exit 1")
    assert "could not be put back into the queue (Requested operation" in str(requeue_job(SlurmJob("7")))
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    assert "could not be put back into the queue ([Errno 2]" in str(requeue_job(SlurmJob("7")))
