"""What a worker of Ray Train does for a run: it starts one process of it, and hands signals and reports on.

The rank is a process of its own and not the worker: Python gives signals to the main thread, and Ray calls a worker's
function in another one, in which a run could not save when it is asked to leave. A worker's process group of torch is
Ray's; the rank makes its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from fulgurite.files.atomic import PRIVATE_FILE, PRIVATE_FOLDER
from fulgurite.files.lock import is_locked
from fulgurite.run.status import LOCK
from fulgurite.strategy.config import available
from fulgurite.strategy.ranks import STARTED_BY
from fulgurite.train import launcher
from fulgurite.train.launcher import Launch, Rank
from fulgurite.train.rank_process import EVERY, TO_LEAVE, RankReport, build_environment

LOOPBACK = "127.0.0.1"


class RunReports:
    """An actor: the signals of the command on their way to the workers, and the ends of the ranks on their way back."""

    def __init__(self) -> None:
        self.signals: list[int] = []
        self.ends: dict[int, dict[str, Any]] = {}

    def begin(self) -> list[int]:
        """Forgets the ends of an earlier start of the run."""
        self.ends.clear()
        return self.signals

    def ask(self, number: int) -> None:
        """Hands a signal to all ranks."""
        self.signals.append(number)

    def note(self, rank: int, report: dict[str, Any]) -> None:
        """Notes how a rank ended."""
        self.ends[rank] = report

    def look(self) -> tuple[list[int], bool]:
        """Returns the signals so far, and whether a rank has ended otherwise than well."""
        return self.signals, any(report["status"] for report in self.ends.values())

    def list_ends(self) -> list[dict[str, Any]]:
        """Returns the reports in the order of the ends."""
        return list(self.ends.values())


@dataclass(slots=True)
class WorkerLaunch(Launch):
    """The one process that a worker has started."""

    reports: Any = None
    """The handle of the actor RunReports."""
    sent: int = 0
    asked: float = 0.0
    """When the actor was asked last."""

    def start_rank(self, command: Sequence[str], number: int, environment: dict[str, str], cwd: str) -> None:
        """Starts the rank `number` of the run."""
        reads, writes = os.pipe()
        own = environment | build_environment(writes, self.folder)
        try:
            with open_log(self.folder, number) as log:
                child = subprocess.Popen(
                    list(command), env=own, cwd=cwd, pass_fds=(writes,), start_new_session=True,
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                )
        finally:
            os.close(writes)
        os.set_blocking(reads, False)
        self.ranks.append(Rank(number, child, reads))
        self._started = True

    def _look(self, now: float) -> None:
        import ray

        Launch._look(self, now)
        if now - self.asked < EVERY:
            return
        self.asked = now
        signals, has_failed = ray.get(self.reports.look.remote())
        # the actor keeps all signals: `sent` is how many of them this worker has passed on
        for number in signals[self.sent :]:
            self.handle_signal(number)
        self.sent = len(signals)
        if has_failed:
            self.last_deadline = min(self.last_deadline, now + launcher.GRACE)
            if now > self.last_deadline:
                self._kill()


def run_rank(config: dict[str, Any]) -> None:
    """Starts a rank and waits for its end. Raises RuntimeError if it was lost, so that Ray starts the run again."""
    import ray
    from ray import train
    from ray.train import collective

    place, reports = train.get_context(), config["reports"]
    number, folder = place.get_world_rank(), Path(config["folder"])
    own = (LOOPBACK if config["is_loopback"] else ray.util.get_node_ip_address(), launcher.find_free_port())
    # every worker finds a free port, and all take that of rank 0
    address, port = collective.broadcast_from_rank_zero(own)
    if number == 0:
        wait_for_release(folder)  # the process of an earlier start has some seconds to leave
        ray.get(reports.begin.remote())
    # no rank starts before rank 0 has seen the folder free and forgotten the earlier ends
    collective.barrier()
    local = place.get_local_world_size()
    environment = {name: value for name, value in os.environ.items() if name not in launcher.OF_SLURM} | {
        "RANK": str(number), "WORLD_SIZE": str(place.get_world_size()), "LOCAL_RANK": str(place.get_local_rank()),
        "LOCAL_WORLD_SIZE": str(local), "NODE_RANK": str(place.get_node_rank()), "MASTER_ADDR": str(address),
        "MASTER_PORT": str(port), "OMP_NUM_THREADS": str(max(1, available() // local)), STARTED_BY: "ray",
    }
    run = WorkerLaunch(folder, world_size=place.get_world_size(), reports=reports)
    try:
        run.start_rank(config.get("command") or build_command(config["words"]), number, environment, config["cwd"])
        run.wait()
    finally:
        for rank in run.list_alive():
            rank.child.kill()
    # A rank without a report that neither we nor a signal ended crashed: an error here makes Ray start the run again.
    [rank] = run.ranks
    status, line = run.judge_end()
    if rank.report is None and rank.child.returncode and not rank.killed and not run.signals:
        raise RuntimeError(str(line))
    # one that was killed while it waited for another knows no more than one that lost the connection to it
    lost = rank.report.lost if rank.report is not None else bool(rank.killed)
    ray.get(reports.note.remote(number, asdict(RankReport(status, str(line), lost))))


def name_log(folder: Path, number: int) -> Path:
    """Returns the file of what a rank prints."""
    return folder / "ray" / f"rank-{number}.log"


def open_log(folder: Path | None, number: int) -> IO[bytes]:
    """Opens the log of a rank, which grows with each start."""
    assert folder is not None
    path = name_log(folder, number)
    path.parent.mkdir(PRIVATE_FOLDER, parents=True, exist_ok=True)
    return open(path, "ab", opener=lambda name, flags: os.open(name, flags, PRIVATE_FILE))


def build_command(words: Sequence[str]) -> list[str]:
    """Returns the command of a rank."""
    return [sys.executable, "-m", "fulgurite", *words]


def wait_for_release(folder: Path, seconds: float = TO_LEAVE + 10) -> None:
    """Waits until no process of this machine trains in the run folder."""
    until = time.monotonic() + seconds
    while (folder / LOCK).exists() and is_locked(folder / LOCK) and time.monotonic() < until:
        time.sleep(0.2)
