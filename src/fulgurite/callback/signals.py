"""Ctrl-C and SIGTERM: finish the step, save, leave.

A second signal leaves at once, as does the first while a reward function runs.

Lightning answers SIGTERM between two micro-batches without saving, and SIGINT with exit status 1, wherever it arrives;
its handlers are therefore replaced while a run trains, and the ones from before are put back afterwards.
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import threading
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback

from fulgurite.callback.checkpoint import Checkpoints, is_at_boundary
from fulgurite.checkpoint import rng
from fulgurite.errors import Interrupted
from fulgurite.foreign_code import is_interruptible
from fulgurite.language.message import UserMessage, message

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
"""SIGUSR1 is what Slurm sends before a job's time is over, SIGHUP what a terminal sends that closes."""


class SignalHandler(Callback):  # type: ignore[misc]
    """Listens while `with stop.listening():` holds, which goes around `trainer.fit`; it is the last of the callbacks.

    Raises Interrupted, which names the checkpoint, between two optimizer steps, on all ranks together.
    """

    def __init__(self, checkpoints: Checkpoints) -> None:
        self.checkpoints = checkpoints
        self.asked: signal.Signals | None = None
        self.asks_requeue = False
        """Whether a process of the run got SIGUSR1, and the run has done a step since it began."""
        self._first_step = 0
        self._times = 0
        self._listening = False
        self._cut: Interrupted | None = None
        self._drawn: dict[str, Any] | None = None

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Answer the signals inside the block, then give them back to who had them, whatever Lightning put there."""
        if threading.current_thread() is not threading.main_thread():
            yield  # Python lets only the main thread have handlers; a run inside another one is stopped by its owner
            return
        before = {number: signal.getsignal(number) for number in SIGNALS}
        if before[signal.SIGHUP] is signal.SIG_IGN:  # under nohup
            del before[signal.SIGHUP]
        self._listening = True
        try:
            self._install(before)
            self._ours = tuple(before)
            yield
        finally:
            self._listening = False
            for number, handler in before.items():
                signal.signal(number, handler)

    def _install(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            signal.signal(number, self._heard)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        name, self._times = signal.Signals(number).name, self._times + 1
        # Inside a step an exception would leave the weights half changed; a reward function changes none.
        if self._times == 1 and not is_interruptible():
            self.asked = signal.Signals(number)
            _write_stderr(f"{name}: this step is finished and saved first; once more to leave at once.\n")
        elif self._times == 1:
            self.asked = signal.Signals(number)
            self._cut = Interrupted(
                "Stopped by {name} while a reward was computed: {rest}", number, name=name, rest=self._left()
            )
            raise self._cut
        elif self._times == 2:
            raise Interrupted(
                "Stopped at once by a second signal, {name}: {rest}", number, name=name, rest=self._left()
            )
        else:
            # Two signals changed nothing: no handler, no `finally` and no other thread may delay the end any longer.
            os._exit(Interrupted("", number).exit_status)

    def _left(self) -> UserMessage:
        newest, run = self.checkpoints.newest, self.checkpoints.folder.parent
        if newest is None:
            return message("no checkpoint was made yet, so the run begins again.")
        return message("the last checkpoint is that of step {step}; go on with resume.run={run}.", step=newest, run=run)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signals back: Lightning has put its own handlers over ours since the block began."""
        self._first_step = trainer.global_step
        if self._listening:
            self._install(self._ours)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Between two optimizer steps."""
        if is_at_boundary(trainer, batch_idx):
            self._leave_if_asked(trainer, evaluated=True)
            self._drawn = rng.capture(trainer.strategy.root_device)  # a rollout follows, and may be interrupted

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Before an evaluation, which may be long."""
        if not trainer.sanity_checking and not _is_done(trainer):
            self._leave_if_asked(trainer, evaluated=False)

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *rest: Any) -> None:
        """Inside an evaluation; with several processes not, because they need not have the same number of batches."""
        if trainer.world_size == 1 and not trainer.sanity_checking and not _is_done(trainer):
            self._leave_if_asked(trainer, evaluated=False)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Saves if a reward function was interrupted: the run is between two optimizer steps, or inside an
        evaluation.
        """
        if self._cut is None or exception is not self._cut:
            return
        self._cut = None
        # The random state is that from before the rollout, so that the resumed run draws the same answers.
        path = self.checkpoints.save(trainer, evaluated=not trainer.validating, random=self._drawn)
        self.asks_requeue = self.asked == signal.SIGUSR1 and trainer.global_step > self._first_step
        name = signal.Signals(exception.number).name
        exception.message = message(
            "Stopped by {name} while a reward was computed, after step {step}, saved in {path}; go on with "
            "resume.run={run}.",
            name=name, step=trainer.global_step, path=path, run=self.checkpoints.folder.parent,
        )

    def _leave_if_asked(self, trainer: Trainer, evaluated: bool) -> None:
        # A scheduler may signal one process only: all decide together, or the others would wait for it forever.
        if not trainer.strategy.reduce_boolean_decision(self.asked is not None, all=False):
            return
        path = self.checkpoints.save(trainer, evaluated)
        is_requeue = trainer.strategy.reduce_boolean_decision(self.asked == signal.SIGUSR1, all=False)
        self.asks_requeue = is_requeue and trainer.global_step > self._first_step
        name = message("a signal to another process") if self.asked is None else self.asked.name
        raise Interrupted(
            "Stopped by {name} after step {step}, saved in {path}; go on with resume.run={run}.",
            signal.SIGTERM if self.asked is None else self.asked,
            name=name, step=trainer.global_step, path=path, run=self.checkpoints.folder.parent,
        )


def _write_stderr(text: str) -> None:
    """Write to stderr from a signal handler, which may come in the middle of a print.

    A terminal that is gone refuses every write with EIO, which would end the run before it has saved: output then goes
    nowhere.
    """
    try:
        os.write(2, text.encode())
    except OSError:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            with contextlib.suppress(OSError):
                if stat.S_ISCHR(os.fstat(stream).st_mode) or stream == 2:
                    os.dup2(nowhere, stream)


def _is_done(trainer: Trainer) -> bool:
    """Whether the last step is behind: then the run ends by itself, and its last evaluation belongs to it."""
    return bool(0 <= trainer.max_steps <= trainer.global_step)
