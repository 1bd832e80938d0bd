"""Who starts the processes of a run, and where."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fulgurite.config.schema import Empty, Option, at_least, knob, option
from fulgurite.language.message import UserMessage, message

if TYPE_CHECKING:
    from fulgurite.config.run import RunConfig

TIME = re.compile(r"\d+|\d+:\d\d|\d+:\d\d:\d\d|\d+-\d+(:\d\d){0,2}|UNLIMITED")
"""The forms of a time limit that sbatch takes."""
BEFORE_LIMIT = 120
"""Seconds before the time limit at which Slurm sends SIGUSR1: time for a step and a checkpoint (ours)."""


@dataclass(slots=True)
class Launcher(Option):
    """What every launcher declares. `builds` names a function that takes the option and a
    `launcher.request.LaunchRequest`, and returns the exit status."""

    is_remote: ClassVar[bool] = False
    """Whether the processes may run on other machines than the command."""


@dataclass(slots=True)
class JobLauncher(Launcher):
    """A launcher whose processes may be those of a Slurm job."""

    requeue: bool = knob(
        True,
        "In a Slurm job: after SIGUSR1 the run saves and puts its job back into the queue; the job then continues it.",
        source="Slurm docs, scontrol requeue and sbatch --signal; Lightning does the same with a pickled checkpoint "
        "(verified)",
        advice="Keep true, and submit with --signal=USR1@120, so that the signal comes two minutes before the time "
        "limit. It has no effect outside of Slurm, or if no step was done since the job began.",
        leave="A job that reaches its time limit otherwise ends, and somebody has to submit it again.",
        interacts={"run_dir": "if it is empty, the job finds the run that it had begun by its number and its words"},
        misread="SIGTERM and Ctrl-C save too, and do not requeue.",
    )


@option("launcher", "local")
@dataclass(slots=True)
class LocalLauncher(JobLauncher):
    """The command starts one process for each device of this machine, or is one of those that torchrun or srun
    started."""

    builds: ClassVar[str] = "fulgurite.launcher.local:launch"
    costs: ClassVar[str] = "Nothing."


@option("launcher", "slurm")
@dataclass(slots=True)
class SlurmLauncher(JobLauncher):
    """Writes a batch script into the run folder and submits it by `sbatch`. Take it on the login node of a cluster."""

    builds: ClassVar[str] = "fulgurite.launcher.slurm:submit"
    costs: ClassVar[str] = "The job's time in the queue."
    misread: ClassVar[str] = (
        "The command ends as soon as the job is submitted: its exit status is that of the submission, and the run's "
        "is in status.json."
    )
    is_remote: ClassVar[bool] = True

    partition: str | None = knob(
        None, "The partition (queue) of the cluster.", source="Slurm docs, sbatch --partition",
        advice="`sinfo` lists the partitions and their time limits.", empty=Empty("the cluster's default partition"),
        interacts={"launcher.time": "a partition has a longest time"},
    )
    account: str | None = knob(
        None, "The account to which the job's time is charged.", source="Slurm docs, sbatch --account",
        advice="`sacctmgr show associations user=$USER` lists yours.", empty=Empty("your default account"),
    )
    time: str | None = knob(
        None, "Time limit of the job: minutes, hours:minutes:seconds, or days-hours:minutes:seconds.",
        source="Slurm docs, sbatch --time", advice="A short limit starts sooner; with launcher.requeue=true the run "
        "continues in the next turn.", empty=Empty("the partition's default limit"),
        interacts={"launcher.requeue": "continues a run that is longer than the limit"},
    )
    cpus_per_task: int | None = knob(
        None, "CPU cores of each process.", source="Slurm docs, sbatch --cpus-per-task", bounds=at_least(1),
        usual=(4, 8, 16), advice="On a GPU 4 to 8, and one more for each of trainer.num_workers.",
        empty=Empty("the cluster's default, usually 1"),
        raise_when="When the processes of a machine leave cores idle.", lower_when="When the job waits for free cores.",
        interacts={"trainer.devices": "one process, and so as many cores, for each device"},
    )
    options: list[str] = knob(
        [], "Further options of sbatch, each a line #SBATCH of the script.", source="Slurm docs, sbatch",
        advice="Such as launcher.options=[--mem=64G,--constraint=h100]. They come last, so they win.",
    )
    setup: list[str] = knob(
        [], "Lines of shell that the script runs on the first machine before it starts the processes.", source="Ours",
        advice="Such as launcher.setup=['module load cuda']. The Python of the command is called by its path, so no "
        "environment needs to be activated.",
        misread="They run as they are written: text of a run folder that somebody gave you is code.",
    )
    submit: bool = knob(
        True, "Submit the script; false only writes it.", source="Ours",
        advice="false to read the script first, or to submit it with other options: sbatch <run folder>/job.sh.",
    )

    def find_refusal(self, run: RunConfig) -> UserMessage | None:
        """Refuses what would not be one line of the script, or no option of sbatch."""
        if self.time is not None and not TIME.fullmatch(self.time):
            return message(
                "launcher.time={time} is not a time limit of Slurm; write minutes (90), hours:minutes:seconds "
                "(04:00:00), or days-hours (1-12).", time=self.time,
            )
        for text in self.options:
            if not text.startswith("-"):
                return message(
                    "launcher.options has {text}, which is no option of sbatch: each begins with a dash, such as "
                    "--mem=64G.", text=text,
                )
        for text in (self.partition or "", self.account or "", *self.options, *self.setup):
            if not text.isprintable():
                return message("launcher has {text!r}, which is not one line of text.", text=text)
        return None


@option("launcher", "ray")
@dataclass(slots=True)
class RayLauncher(Launcher):
    """Ray Train starts the processes, on this machine or on those of a Ray cluster, and starts them again from the last
    checkpoint if one is lost. Take it if you have a Ray cluster."""

    builds: ClassVar[str] = "fulgurite.launcher.ray_train:launch"
    costs: ClassVar[str] = "About half a minute at the start, and a process of Ray for each of the run's (0.3 GB)."
    is_remote: ClassVar[bool] = True

    address: str | None = knob(
        None, "Address of a running Ray cluster: auto, or host:port.", source="Ray docs, ray.init(address=...)",
        advice="Leave it empty on one machine; auto on a machine of a cluster that `ray start` has made.",
        empty=Empty("a Ray of its own on this machine, which listens on the loopback address alone"),
        misread="Whoever reaches the ports of Ray can run code there: keep them inside a network that you trust "
        "(CVE-2025-62593).",
    )
    max_failures: int = knob(
        2, "How often the run is started again after a process was lost.",
        source="Ray docs, FailureConfig(max_failures=...)", bounds=at_least(0), usual=(0, 2, 5),
        advice="2. Wrong requests and failures of training (exit status 2 and 3) are not repeated.",
        raise_when="On machines that may be taken away at any time.", lower_when="To see the first failure at once: 0.",
        interacts={"trainer.save_every": "a run that starts again has lost the steps since the last checkpoint"},
    )
