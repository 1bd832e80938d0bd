"""The Slurm job that this process is part of, and how it is put back into the queue. Imports nothing heavy."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fulgurite.language.library_errors import quote_foreign, translate_error
from fulgurite.language.message import UserMessage, message
from fulgurite.strategy.ranks import INTERACTIVE

LATE_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
PATIENCE = 60.0
"""Seconds that `scontrol` may take."""


@dataclass(frozen=True, slots=True)
class SlurmJob:
    """A batch job. `restarts` counts how often Slurm has started it again."""

    number: str
    restarts: int = 0


def find_job(environment: Mapping[str, str]) -> SlurmJob | None:
    """Returns the job that the environment names; None outside of Slurm and in the shell of a job."""
    number, restarts = environment.get("SLURM_JOB_ID", ""), environment.get("SLURM_RESTART_COUNT", "")
    if not number or environment.get("SLURM_JOB_NAME") in INTERACTIVE:
        return None
    return SlurmJob(number, int(restarts) if restarts.isdecimal() else 0)


def requeue_job(job: SlurmJob) -> UserMessage:
    """Puts a job back into the queue; returns the line about it. Slurm then sends SIGTERM to the job's processes."""
    try:
        with _ignore_signals():
            done = subprocess.run(
                ["scontrol", "requeue", job.number], capture_output=True, text=True, timeout=PATIENCE, check=False
            )
        why = quote_foreign(done.stderr.strip() or done.stdout.strip() or "scontrol")
    except (OSError, subprocess.TimeoutExpired) as error:
        done, why = None, translate_error(error)
    if done is not None and not done.returncode:
        return message("Slurm job {job} is back in the queue, and continues this run when it starts.", job=job.number)
    return message(
        "warning: Slurm job {job} could not be put back into the queue ({reason}); submit it again to continue.",
        job=job.number, reason=why,
    )


@contextlib.contextmanager
def _ignore_signals() -> Iterator[None]:
    """Ignores inside the block the signals with which Slurm ends a job that it requeues."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in LATE_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
