"""What a person sees while a run trains: one calm line on a terminal, a few plain ones in a log."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TextIO

import lightning.pytorch as pl
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Column

from fulgurite.callback.config import ProgressOption
from fulgurite.callback.context import CallbackContext
from fulgurite.callback.optimizer_step import OptimizerStepCallback
from fulgurite.language.message import UserMessage, message
from fulgurite.logger.smoothing import RunningMean
from fulgurite.text.layout import count_cells, pad

WARM_UP = 2
"""The first steps allocate, tune and compile; a forecast from them is noise."""


def build(config: ProgressOption, context: CallbackContext) -> ProgressLine:
    """The line of a run."""
    return ProgressLine(context.total_steps)


class TimeLeft:
    """Seconds left: training at its mean pace after the warm-up, and pauses at the rate known at the last one's end."""

    def __init__(self, total: int, done: int = 0) -> None:
        self._total, self._start = total, done
        self._begin: tuple[int, float] | None = None
        self._pause = 0.0

    def left(self, step: int, trained: float, paused: float) -> float | None:
        """From the seconds trained and paused so far; None while it is too early to say."""
        if step - self._start < WARM_UP:
            return None
        if self._begin is None:
            self._begin, self._paused, self._pause_step = (step, trained), paused, step
        if paused > self._paused + 0.01:
            self._pause += paused - self._paused
            self._paused, self._pause_step = paused, step
        steps = step - self._begin[0]
        if steps < 1:
            return None
        pause = self._pause / max(self._pause_step - self._begin[0], 1)
        return (self._total - step) * ((trained - self._begin[1]) / steps + pause)


class ProgressLine(OptimizerStepCallback):
    """Steps, loss, rate, tokens a second, time left and the validation loss, on stderr."""

    def __init__(
        self, total_steps: int, *, stream: TextIO | None = None, clock: Callable[[], float] = time.perf_counter,
        width: int | None = None,
    ) -> None:
        super().__init__()
        self._total, self._clock, self._stream, self._width = total_steps, clock, stream, width
        self._loss, self._mean, self._val = RunningMean(), 0.0, ""
        self._speed: deque[tuple[float, int]] = deque(maxlen=20)
        self._shown: tuple[float, int] | None = None
        self._bar: Progress | None = None
        self._task, self._wide = TaskID(0), 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Opens the line on a terminal."""
        super().on_train_start(trainer, pl_module)
        self._forecast = TimeLeft(self._total, trainer.global_step)
        if trainer.is_global_zero:
            stream = self._stream or sys.stderr
            console = Console(file=stream, width=self._width)
            if console.is_terminal and not console.is_dumb_terminal:
                self._bar = _build_bar(console)
                done = trainer.global_step
                self._task = self._bar.add_task("", total=self._total, completed=done, words="")
                self._bar.start()
                self._show(done, str(message("the first step ...")))

    def on_step(self, trainer: pl.Trainer, stage: Any, step: int) -> None:
        """Shows the step, at most five times a second on a terminal."""
        # The first step's tokens are left out: it is not the pace.
        self._speed.append((stage.pace.trained, self._speed[-1][1] + stage.step_tokens_read if self._speed else 0))
        if "train/loss" in stage.step_record:  # a step that drew no row, under privacy, has none
            self._mean = self._loss.add(stage.step_record["train/loss"])
        left = self._forecast.left(step, stage.pace.trained, stage.pace.paused)
        now = self._clock()
        if self._bar is not None:
            if self._shown is None or now - self._shown[0] >= 0.2 or step == self._total:
                self._shown = (now, step)
                self._show(step, self._describe(stage.step_record, left))
        elif trainer.is_global_zero and self._due(step, now):
            self._shown = (now, step)
            at = message("step {step}/{total}", step=step, total=self._total)
            self._say(f"{at}  {self._describe(stage.step_record, left)}")

    def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Shows that an evaluation runs, during which the line does not move."""
        if not trainer.sanity_checking:
            loss = f"{self._format_loss()}{self._val}  " if self._speed else ""
            self._show(trainer.global_step, f"{loss}{message('evaluating ...')}")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Keeps the validation loss in the line; in a log it is a line of its own."""
        loss = trainer.callback_metrics.get("val/loss")
        if loss is None or trainer.sanity_checking:
            return
        accuracy = trainer.callback_metrics.get("val/accuracy")
        held_out = "" if accuracy is None else f"  {message('val accuracy')} {float(accuracy):.1%}"
        self._val = f"  val {float(loss):.3f}{held_out}"
        self._show(trainer.global_step, self._describe(pl_module.step_record, None))
        if self._bar is None and trainer.is_global_zero:
            at = message("step {step}/{total}", step=trainer.global_step, total=self._total)
            self._say(f"{at}  {message('validation loss')} {float(loss):.4f}{held_out}")

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Leaves the last state on the screen."""
        self._close()

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Gives the terminal back, whatever happened."""
        self._close()

    def _describe(self, record: dict[str, float], left: float | None) -> str:
        if not self._speed:  # a resumed run may begin with the evaluation that it was stopped in
            return self._val.strip()
        (then, before), (now, total) = self._speed[0], self._speed[-1]
        speed = f"  {(total - before) / (now - then):,.0f} tok/s" if now > then else ""
        rest: object = ""
        if left is not None and self._last < self._total:
            rest = message("  {time} left", time=format_clock(left))
        reward = f"  reward {record['train/reward']:.3f}" if "train/reward" in record else ""
        rate: object = f"lr {record.get('train/lr', 0.0):.1e}"
        if self._last == 1 and record.get("train/lr") == 0:
            # The bar beside the line never gets wider again, so the reason is short on a terminal.
            why = message("the warmup starts at 0, as in transformers") if self._bar is None else message("warmup")
            rate = f"lr 0 ({why})"
        return f"{self._format_loss()}{reward}{self._val}  {rate}{speed}{rest}"

    def _format_loss(self) -> UserMessage:
        # a mean over about ten steps: metrics.jsonl has the loss of each step
        return message("loss (smoothed) {loss:.3f}", loss=self._mean)

    def _due(self, step: int, now: float) -> bool:
        """In a log: the first step and the last; else ten seconds and a tenth of the run (at most 100 steps) apart."""
        if self._shown is None or step == self._total:
            return True
        return now - self._shown[0] >= 10 and step - self._shown[1] >= min(self._total / 10, 100)

    def _show(self, step: int, words: str) -> None:
        if self._bar is not None:
            # Never narrower than before, or the bar beside it would jump.
            words = f"{step}/{self._total} {words}"
            self._wide = max(self._wide, count_cells(words))
            self._bar.update(self._task, completed=step, words=pad(words, self._wide), refresh=True)

    def _say(self, line: str) -> None:
        print(line, file=self._stream or sys.stderr, flush=True)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _build_bar(console: Console) -> Progress:
    """No thread redraws it: a line that moves only when something happened is calm, and costs nothing."""
    words = TextColumn("{task.fields[words]}", markup=False, table_column=Column(no_wrap=True))
    return Progress(words, BarColumn(bar_width=None), console=console, auto_refresh=False, expand=True)


def format_clock(seconds: float) -> str:
    """`3:05` or `1:02:03`."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
