"""The callback that gives the rules their numbers and reports their findings.

One callback for all rules: Lightning calls every hook of each callback in each micro-batch, and twenty of them would
cost more than the rules do: 20 to 50 µs an optimizer step all together (measured), and the state 2 ms a checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import lightning.pytorch as pl

from fulgurite.callback.config import MonitorOption
from fulgurite.callback.context import CallbackContext
from fulgurite.callback.optimizer_step import OptimizerStepCallback
from fulgurite.callback.samples import Samples
from fulgurite.monitor import thresholds as limits
from fulgurite.monitor.context import build_about
from fulgurite.monitor.history import About, History, TrainingFacts
from fulgurite.monitor.reporter import Reporter
from fulgurite.monitor.rules import RULES, Moment


def build(config: MonitorOption, context: CallbackContext) -> MonitorCallback:
    """Builds the rules for a run; those about samples read the callback `samples`, if there is one."""
    run, samples = context.run, context.built.get("samples")
    known = build_about(context.total_steps, context.module, context.rows)
    reporter = Reporter(context.folder / "watch.jsonl")
    return MonitorCallback(reporter, known, run.monitor.ignore, samples if isinstance(samples, Samples) else None)


class MonitorCallback(OptimizerStepCallback):
    """Checks the rules after each optimizer step, evaluation and set of samples. Runs after `samples`, and before
    checkpoints."""

    state_key = "Watch"
    """The key in checkpoints. It keeps the earlier name of the class, so that earlier checkpoints can be resumed."""

    def __init__(
        self, voice: Reporter, about: About, quiet: Sequence[str] = (), samples: Samples | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        super().__init__()
        self.voice, self.quiet, self.seen, self.clock = voice, frozenset(quiet), TrainingFacts(about), clock
        self._samples = samples
        self._tokens = 0
        self._mark: float | None = None
        self._times: list[tuple[float, float]] = []
        self._now = [0.0, 0.0]

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """A resumed run begins after the steps it has, and with the findings so far."""
        super().on_train_start(trainer, pl_module)
        self._tokens = pl_module.tokens_seen
        self.voice.begin(trainer.global_step, trainer.is_global_zero)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Since the last micro-batch ended, the loop has waited for this one, or evaluated."""
        now = self.clock()
        if self._mark is not None:
            self._now[0] += now - self._mark
        self._mark = now

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Adds the time of the micro-batch to its step."""
        now = self.clock()
        self._now[1] += now - (self._mark if self._mark is not None else now)
        self._mark = now
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_step(self, trainer: pl.Trainer, stage: Any, step: int) -> None:
        """Checks the numbers of the step."""
        # The stage counts the tokens of the whole run; a row of the history has those of its step.
        labels, self._tokens = stage.tokens_seen - self._tokens, stage.tokens_seen
        self.seen.history.add(step, stage.step_record, int(labels))
        self._timed()
        self._judge(trainer, Moment.step)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Stops the clock: an evaluation is not waiting."""
        self._mark = None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Checks the validation loss, and the samples drawn with it."""
        loss = trainer.callback_metrics.get("val/loss")
        if trainer.sanity_checking or loss is None or trainer.state.fn != "fit":
            return
        self.seen.history.record_evaluation(trainer.global_step, float(loss))
        self._judge(trainer, Moment.evaluation)
        self._judge(trainer, Moment.samples)

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Checks the last samples."""
        if trainer.global_step >= self.seen.about.total or trainer.should_stop:
            self._judge(trainer, Moment.samples)
            self._judge(trainer, Moment.end)

    def state_dict(self) -> dict[str, Any]:
        """Returns numbers of steps only, nothing that depends on the clock."""
        return {"trail": self.seen.history.get_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores what `state_dict` returned."""
        self.seen.history = History.from_state(state_dict["trail"])

    def _judge(self, trainer: pl.Trainer, at: Moment) -> None:
        """Values are the same in all processes, so that all stop together; only the first has the samples."""
        self.seen.samples = self._samples.rows if self._samples is not None and at is not Moment.step else ()
        # A rule is reported once a run: those that were reported need not be checked again.
        for rule, finding in RULES.find(self.seen, at, self.quiet | self.voice.said):
            self.voice.speak(trainer.global_step, rule.id, finding, trainer.loggers, trainer.is_global_zero)

    def _timed(self) -> None:
        """Adds up waiting and computing over the newest steps; the first of all is left out, as it warms up."""
        self._times.append((self._now[0], self._now[1]))
        self._now = [0.0, 0.0]
        # One more than is summed: the oldest is left out below, and at first that is the step which warms up.
        self._times = self._times[-limits.WAIT_STEPS - 1 :]
        newest = self._times[1:]
        self.seen.waited, self.seen.computed = sum(w for w, _ in newest), sum(c for _, c in newest)
        self.seen.timed = len(newest)
