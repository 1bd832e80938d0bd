"""Starts one process for each device of this machine, watches them, and ends them all together
with one line and one status.

Two launchers were looked at and cannot take its place, because the exit statuses 2, 3, 130 and 143,
the single error line and the checkpoint after a signal are part of the command:

- torchrun (torch 2.13, `torch.distributed.run`, and `elastic.multiprocessing.start_processes` below it) ends with
  status 1 whatever its processes ended with, prints a traceback of its own, sends SIGTERM to the other ranks as soon as
  one has ended, kills them 30 seconds after a signal in the middle of a long step, and does not hand on SIGUSR1.
  Its API needs torch in the launcher.
- Lightning (2.6, `_SubprocessScriptLauncher`) makes the command itself rank 0, starts the others by the command line
  that Hydra has rewritten, and answers the end of any of them with SIGKILL for all, rank 0 included:
  nothing is saved and no status is left.

Whoever prefers torchrun or Slurm starts the same command with it (`strategy/ranks.py`); the exit status is then theirs.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from fulgurite.checkpoint.folder import list_steps
from fulgurite.errors import Interrupted, TrainingFailed
from fulgurite.language.message import UserMessage, message
from fulgurite.run.status import correct_status
from fulgurite.strategy.config import available
from fulgurite.text.console import say, say_error
from fulgurite.train.rank_process import RankReport, build_environment

GRACE = 30.0
"""Seconds that the other ranks have to leave after one has ended, or all of them after a signal."""
LONGEST = 600.0
"""Seconds after a signal at which ranks are killed that still compute: a collective that waits on a GPU looks like a
long step, and never ends."""
AT_ONCE = 5.0
"""Seconds after a second signal."""
IDLE = 0.05
"""A rank that uses less than this share of a core computes nothing. Ranks that wait for another one use none."""
LOOK = 2.0
"""Seconds between two looks at what the ranks compute."""
STOPPED = 120.0
"""Seconds that the others wait for a rank that was stopped (SIGSTOP)."""
OF_SLURM = ("SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID")
"""What makes a process a task of Slurm: one that is started here is none, also in a job's shell."""
COMPUTING = message("it was still computing")
STUCK = {"stopped": message("it was stopped, as by SIGSTOP"), "idle": message("it did nothing")}
"""What a rank did when it was killed, by `Rank.killed`."""
HANDED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


@dataclass(slots=True)
class Rank:
    """A process of the run, and what is known of it."""

    number: int
    child: subprocess.Popen[bytes]
    pipe: int
    """The end of the pipe from which its report is read."""
    ended: float | None = None
    report: RankReport | None = None
    killed: str = ""
    """What it did when this launcher killed it."""
    cpu: float = 0.0
    idle: bool = False
    stopped: float | None = None
    """Since when it is stopped."""

    def poll(self) -> None:
        """Note an end, once, with the report that was handed over before."""
        if self.ended is None and self.child.poll() is not None:
            self.ended, self.report = time.monotonic(), _read(self.pipe)
            os.close(self.pipe)

    def look(self, seconds: float) -> None:
        """Note whether it has computed anything in the last `seconds`."""
        import psutil

        with contextlib.suppress(psutil.Error):
            # The first two are user and system time.
            spent = sum(psutil.Process(self.child.pid).cpu_times()[:2])
            self.idle, self.cpu = spent - self.cpu < IDLE * seconds, spent

    def describe(self) -> str:
        """What it does, in words."""
        import psutil

        with contextlib.suppress(psutil.Error):
            if psutil.Process(self.child.pid).status() == psutil.STATUS_STOPPED:
                return "stopped"
        return "idle" if self.idle else "computing"


@dataclass(slots=True)
class Launch:
    """The processes of one run, from their start to their end."""

    folder: Path | None
    """The run's folder; None on a machine that does not name it."""
    ranks: list[Rank] = field(default_factory=list)
    world_size: int = 0
    """The processes of all machines."""
    signals: list[int] = field(default_factory=list)
    deadline: float = float("inf")
    last_deadline: float = float("inf")
    """When even a rank that computes is killed."""
    _started: bool = False
    _looked: float = 0.0

    def start(self, command: Sequence[str], processes: int, node_rank: int = 0, num_nodes: int = 1) -> None:
        """Start every rank of this machine in a session of its own, so that a terminal's Ctrl-C comes from here alone.

        With several machines MASTER_ADDR and MASTER_PORT are in the environment: see `strategy.ranks.check_nodes`.
        """
        shared = {name: value for name, value in os.environ.items() if name not in OF_SLURM} | {
            "WORLD_SIZE": str(processes * num_nodes), "LOCAL_WORLD_SIZE": str(processes), "NODE_RANK": str(node_rank),
            "OMP_NUM_THREADS": str(max(1, available() // processes)),
        }
        if num_nodes == 1:
            shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(find_free_port())}
        first, self.world_size = node_rank * processes, processes * num_nodes
        for local in range(processes):
            number = first + local
            reads, writes = os.pipe()
            own = shared | {"RANK": str(number), "LOCAL_RANK": str(local)} | build_environment(writes, self.folder)
            try:
                child = subprocess.Popen(list(command), env=own, pass_fds=(writes,), start_new_session=True)
            finally:
                os.close(writes)
            # Reading a report must never wait, even if something still holds the other end open.
            os.set_blocking(reads, False)
            self.ranks.append(Rank(number, child, reads))
        before, self._started = self.signals[:1], True
        for number in before:  # it came when there was nobody yet, or not everybody, to hand it to
            self._send(number)

    def handle_signal(self, number: int, frame: FrameType | None = None) -> None:
        """A signal: every rank gets it; the third kills them."""
        self.signals.append(number)
        if number == signal.SIGHUP:
            _survive_hangup()
        if self._started:
            self._send(number)
        now = time.monotonic()
        self.deadline = min(self.deadline, now + (GRACE, AT_ONCE, 0.0)[min(len(self.signals), 3) - 1])
        self.last_deadline = min(self.last_deadline, now + LONGEST)

    def _send(self, number: int) -> None:
        for rank in self.list_alive():
            rank.child.send_signal(number)

    def list_alive(self) -> list[Rank]:
        """The ranks that have not ended."""
        return [rank for rank in self.ranks if rank.ended is None]

    def wait(self) -> None:
        """Return when every rank has ended; one that does not leave in time is killed."""
        while alive := self.list_alive():
            now = time.monotonic()
            for rank in alive:
                rank.poll()
            self._look(now)
            # Once a rank has failed, or the first one has ended, the others have GRACE seconds to leave.
            first = [
                rank
                for rank in self.ranks
                if rank.ended is not None and (rank.child.returncode or rank is self.ranks[0])
            ]
            if first:
                self.deadline = min(self.deadline, now + GRACE)
            if now > self.deadline and not self._may_go_on(bool(first)):
                self._kill()
            time.sleep(0.1)

    def _look(self, now: float) -> None:
        if now - self._looked < LOOK:
            return
        for rank in self.list_alive():
            rank.look(now - self._looked)
            if rank.describe() != "stopped":
                rank.stopped = None
            elif rank.stopped is None:
                rank.stopped = now
                say(
                    message(
                        "warning: rank {number} (process {pid}) is stopped, as by SIGSTOP; continue it within "
                        "{seconds:g} s (kill -CONT {pid}), or the run ends.",
                        number=rank.number, pid=rank.child.pid, seconds=STOPPED,
                    )
                )
        self._looked = now
        stopped = [rank for rank in self.list_alive() if rank.stopped is not None]
        waiting = [rank for rank in self.list_alive() if rank.stopped is None and rank.idle]
        # ranks that are all stopped are a run that somebody has paused
        if waiting and any(now - (rank.stopped or now) > STOPPED for rank in stopped):
            self.deadline = now

    def _may_go_on(self, failed: bool) -> bool:
        """Whether ranks that were asked once to leave are still busy with their step:
        a long one is worth waiting for, up to LONGEST."""
        if failed or len(self.signals) != 1:
            return False
        now = time.monotonic()
        if now > self.last_deadline or all(rank.idle or rank.describe() == "stopped" for rank in self.list_alive()):
            return False
        self.deadline = min(now + GRACE, self.last_deadline)
        say(message(
            "The step has not ended after {seconds:g} more seconds; press again to leave at once, with the last "
            "checkpoint.", seconds=GRACE,
        ))
        return True

    def _kill(self) -> None:
        for rank in self.list_alive():
            rank.killed = rank.killed or rank.describe()
            rank.child.kill()

    # -- what came of it

    def judge_end(self) -> tuple[int, str | UserMessage]:
        """The exit status of the command and its error line, which is empty if all is well."""
        # The rank that ended first has the cause; `lost` reports of the others only follow from it.
        in_time = sorted(self.ranks, key=lambda rank: rank.ended or 0.0)
        reports = [rank.report for rank in in_time if rank.report is not None and not rank.report.lost]
        failed = [report for report in reports if report.status not in Interrupted.STATUSES]
        if failed:
            report = next((r for r in failed if r.status == TrainingFailed.exit_status), failed[0])
            return report.status, report.line
        if died := self._died():
            return TrainingFailed.exit_status, died
        stopped = Interrupted("", self.signals[0]).exit_status if self.signals else 0
        if reports:  # all were interrupted for the same reason
            return stopped or reports[0].status, reports[0].line
        if stuck := [rank for rank in self.ranks if rank.killed]:
            return self._stuck(stuck, stopped)
        if any(rank.child.returncode for rank in self.ranks):
            if stopped:
                name = _name_signal(self.signals[0])
                return stopped, message("Stopped by {signal} before training began.", signal=name)
            lines = [rank.report.line for rank in self.ranks if rank.report is not None]
            line = lines[0] if lines else message("The processes of the run gave no reason.")
            return TrainingFailed.exit_status, line
        return 0, UserMessage()

    def _died(self) -> UserMessage:
        """The line about the first rank that ended without a word and without being asked to."""
        for rank in sorted(self.ranks, key=lambda rank: rank.ended or 0.0):
            code = rank.child.returncode
            if rank.report is not None or rank.killed or (code < 0 and -code in self.signals):
                continue
            about = {"rank": rank.number, "size": self.world_size, "left": self._left()}
            if code == -signal.SIGKILL:
                return message(
                    "Rank {rank} of {size} was killed by SIGKILL, as when memory runs out. {left}", **about
                )
            if code < 0:
                return message(
                    "Rank {rank} of {size} was killed by {signal}. {left}", signal=_name_signal(-code), **about
                )
            if code or any(other.report is not None and other.report.lost for other in self.ranks):
                return message(
                    "Rank {rank} of {size} left with exit status {code} and gave no reason. {left}", code=code, **about
                )
        return UserMessage()

    def _stuck(self, stuck: list[Rank], stopped: int) -> tuple[int, UserMessage]:
        worst = next((rank for rank in stuck if rank.killed == "stopped"), stuck[0])
        about = {
            "rank": worst.number, "size": self.world_size, "state": STUCK.get(worst.killed, COMPUTING),
            "left": self._left(),
        }
        if stopped:
            return stopped, message(
                "Stopped by {signal}: rank {rank} of {size} did not leave ({state}) and was killed. {left}",
                signal=_name_signal(self.signals[0]), **about,
            )
        return TrainingFailed.exit_status, message(
            "Rank {rank} of {size} did not answer the others ({state}) and was killed. {left}", **about
        )

    def _left(self) -> UserMessage:
        if self.folder is None:
            return message("The first machine of the run reports what is left.")
        there = list_steps(self.folder / "checkpoints")
        if not there:
            return message("No checkpoint was made yet, so the run begins again.")
        return message(
            "The last checkpoint is that of step {step}; go on with resume.run={folder}.",
            step=there[-1], folder=self.folder,
        )


def launch(words: Sequence[str], processes: int, folder: Path | None, node_rank: int = 0, num_nodes: int = 1) -> int:
    """Run `python -m fulgurite <words>` once for each rank of this machine, in the run folder `folder` (None if another
    machine names it); prints one error line and returns the exit status.

    Signals are handed on, so that the ranks save and leave together; if one rank fails the others are ended.
    """
    run = Launch(folder)
    with handle_signals(run.handle_signal):
        try:
            run.start([sys.executable, "-m", "fulgurite", *words], processes, node_rank, num_nodes)
            run.wait()
        finally:
            for rank in run.list_alive():
                rank.child.kill()
                rank.child.wait()
    status, line = run.judge_end()
    if status:
        first = run.ranks[0].report
        state = "stopped" if status in Interrupted.STATUSES else "failed"
        if folder is not None and node_rank == 0:
            correct_status(folder, state, line, replace_reason=first is not None and first.lost)
        say_error(line)
    return status


@contextlib.contextmanager
def handle_signals(handle: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Answers the signals of HANDED_ON by `handle` inside the block, but for a hangup that is ignored, as under
    nohup."""
    before: dict[int, Any] = {number: signal.getsignal(number) for number in HANDED_ON}
    # nohup makes its command ignore SIGHUP, which a handler of ours would undo.
    if before[signal.SIGHUP] is signal.SIG_IGN:
        del before[signal.SIGHUP]
    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _survive_hangup() -> None:
    """Send output nowhere if its terminal is gone: each write would fail, and end this process before its ranks."""
    try:
        os.write(2, b"SIGHUP: the ranks finish their step and save.\n")
    except OSError:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (1, 2):
            os.dup2(nowhere, stream)


def _read(pipe: int) -> RankReport | None:
    """The report that a rank has left in its pipe."""
    try:
        found = json.loads(os.read(pipe, 1 << 16).splitlines()[0])
        return RankReport(int(found["status"]), str(found["line"]), bool(found["lost"]))
    except (OSError, ValueError, IndexError, KeyError, TypeError):
        return None


def _name_signal(number: int) -> str | UserMessage:
    try:
        return signal.Signals(number).name
    except ValueError:
        return message("signal {number}", number=number)


def find_free_port() -> int:
    """Returns a port of this machine that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
