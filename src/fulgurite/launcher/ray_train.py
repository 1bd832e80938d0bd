"""Starts the processes of a run by Ray Train (tested with Ray 2.60), and turns their ends into one line and one status.

Ray's own strategies for Lightning are not used: `prepare_trainer` refuses all but its three, and they would replace
ours. A worker starts the command that `launcher=local` would start, with the same words; Ray places the workers, and
starts them again if one is lost.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from fulgurite.errors import ConfigError, Interrupted, TrainingFailed
from fulgurite.language.library_errors import quote_foreign
from fulgurite.language.message import UserMessage, message
from fulgurite.launcher.config import RayLauncher
from fulgurite.launcher.ray_worker import RunReports, name_log, run_rank
from fulgurite.launcher.request import LaunchRequest, forget_folder
from fulgurite.run.folder import make_folder
from fulgurite.run.status import correct_status
from fulgurite.strategy.config import available
from fulgurite.text.console import say_error
from fulgurite.train.launcher import handle_signals
from fulgurite.train.rank_process import RankReport

QUIET = {
    "RAY_TRAIN_V2_ENABLED": "1", "RAY_CHDIR_TO_TRIAL_DIR": "0", "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
"""What Ray reads from the environment: no files of its own beside the command, no reports to its makers."""
ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Makes Ray 2.60 take the loopback address for that of the node, and listen on it alone, whatever the system. With
`_node_ip_address=127.0.0.1` it takes the address of the network, and listens on all interfaces (seen with ss)."""


@dataclass(slots=True)
class RayRun:
    """A run of Ray Train, in a thread, so that the main thread answers signals."""

    trainer: Any
    reports: Any
    """The handle of the actor RunReports."""
    log: Path
    """What the first rank prints. Ray's own way to this terminal mixes it with lines of Ray about itself."""
    signals: list[int] = field(default_factory=list)
    error: BaseException | None = None
    sent: int = 0
    printed: int = 0

    def wait(self) -> None:
        """Returns when all workers have ended; signals go to the ranks, the third ends the wait."""
        thread = threading.Thread(target=self._fit, name="ray-train", daemon=True)
        thread.start()
        while thread.is_alive() and len(self.signals) < 3:
            thread.join(0.2)
            for number in self.signals[self.sent :]:
                self.reports.ask.remote(number)
                self.sent += 1
            self._print_log()
        self._print_log()

    def handle_signal(self, number: int, frame: FrameType | None = None) -> None:
        """Notes a signal, which `wait` hands on."""
        self.signals.append(number)

    def _print_log(self) -> None:
        """Prints what the first rank has printed since the last call."""
        with contextlib.suppress(FileNotFoundError), self.log.open("rb") as log:
            log.seek(self.printed)
            text = log.read()
            self.printed += len(text)
            sys.stderr.write(text.decode(errors="replace"))
            sys.stderr.flush()

    def _fit(self) -> None:
        try:
            self.trainer.fit()
        except BaseException as error:
            self.error = error


def launch(config: RayLauncher, request: LaunchRequest) -> int:
    """Runs the ranks under Ray in one run folder; prints one error line and returns the exit status.

    Raises ConfigError if Ray is not installed, or cannot be reached.
    """
    wanted = QUIET if config.address is not None else QUIET | ALONE
    os.environ |= {name: os.environ.get(name, value) for name, value in wanted.items()}  # read when it is imported
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ConfigError(
            "launcher=ray needs the package ray, which is not installed; install it: pip install 'ray[train]'"
        ) from error
    request.check()
    connect(ray, config.address, request.world_size)
    try:
        gpus = int(ray.cluster_resources().get("GPU", 0))
        refuse_without_gpus(config, request, gpus)
        uses_gpu = request.uses_gpu and gpus > 0
        folder = request.choose_folder().absolute()
        make_folder(folder)
        # without a CPU: there may be just as many as there are workers, and one of these would wait for ever
        reports = ray.remote(num_cpus=0)(RunReports).remote()
        given = {
            "words": request.add_folder(folder), "folder": str(folder), "cwd": os.getcwd(), "reports": reports,
            "is_loopback": config.address is None,
        }
        log = name_log(folder, 0)
        run = RayRun(
            build_trainer(given, request.world_size, uses_gpu, config.max_failures), reports, log,
            printed=log.stat().st_size if log.is_file() else 0,
        )
        with handle_signals(run.handle_signal):
            run.wait()
        ends = [RankReport(**found) for found in ray.get(reports.list_ends.remote())]
    finally:
        ray.shutdown()
    status, line = judge_ends(ends, run.signals, run.error)
    if status:
        correct_status(folder, "stopped" if status in Interrupted.STATUSES else "failed", line)
        say_error(line)
        if request.is_fresh:
            forget_folder(folder)
    return status


def refuse_without_gpus(config: RayLauncher, request: LaunchRequest, gpus: int) -> None:
    """Raises ConfigError if a run with trainer.accelerator=cuda would get no GPU. A cluster may add some later, if it
    has one; this machine does not."""
    needed = 1 if config.address is not None else request.world_size
    if not request.needs_gpu or gpus >= needed:
        return
    if gpus:
        raise ConfigError(
            "trainer.accelerator=cuda needs a GPU for each of {processes} processes, and Ray finds {gpus} on this "
            "machine; use trainer.devices={gpus}, or launcher.address of a cluster.",
            processes=request.world_size, gpus=gpus,
        )
    raise ConfigError(
        "trainer.accelerator=cuda needs a GPU, and Ray finds none; use trainer.accelerator=auto, or launcher.address "
        "of a cluster with GPUs."
    )


def connect(ray: Any, address: str | None, processes: int) -> None:
    """Connects to a cluster, or starts a Ray of its own, without dashboard, that only this machine reaches."""
    if address is not None:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        return
    ray.init(
        address="local", include_dashboard=False, num_cpus=max(available(), processes),
        log_to_driver=False, logging_level=logging.ERROR,
    )


def build_trainer(given: dict[str, Any], processes: int, uses_gpu: bool, max_failures: int) -> Any:
    """Returns Ray's TorchTrainer with a worker for each process of the run."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    return TorchTrainer(
        run_rank, train_loop_config=given, torch_config=TorchConfig(backend="gloo"),
        scaling_config=ScalingConfig(num_workers=processes, use_gpu=uses_gpu),
        run_config=RunConfig(
            name="ray", storage_path=given["folder"], failure_config=FailureConfig(max_failures=max_failures)
        ),
    )


def judge_ends(
    ends: list[RankReport], signals: list[int], error: BaseException | None
) -> tuple[int, str | UserMessage]:
    """Returns the exit status and the error line of a run, which is empty if all is well."""
    known = [end for end in ends if end.status and not end.lost]
    # A rank that failed by itself is the cause; the others were lost or asked to leave because of it.
    failed = [end for end in known if end.status not in Interrupted.STATUSES]
    if failed:
        worst = next((end for end in failed if end.status == TrainingFailed.exit_status), failed[0])
        return worst.status, worst.line
    stopped = Interrupted("", signals[0]).exit_status if signals else 0
    if known:
        return stopped or known[0].status, known[0].line
    if error is not None and not stopped:
        reasons = getattr(error, "worker_failures", None) or {0: error}
        reason = quote_foreign(" ".join(str(next(iter(reasons.values()))).split())[-600:], 600)
        return TrainingFailed.exit_status, message("Ray Train ended the run: {reason}", reason=reason)
    first = next((end for end in ends if end.status), None)
    if stopped and first is None:
        return stopped, message("Stopped by {signal} before training began.", signal=signal.Signals(signals[0]).name)
    return (0, UserMessage()) if first is None else (stopped or first.status, first.line)
