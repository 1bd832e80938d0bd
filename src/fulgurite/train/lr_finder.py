"""`fulgurite train +find=lr`: a run whose rate grows from step to step; the curve is drawn and
kept, what was trained is not.

Lightning's Tuner.lr_find was read and not taken. It gives every parameter group one rate (LoRA+,
layer decay and Muon lose theirs), reads the loss of the last micro-batch as Lightning scales it and not that of the
step, writes a pickled checkpoint, and looks for the steepest fall over the rate rather than its logarithm,
which favours the lowest rates. Ours is the run's own stage, optimizer and exact step,
under a schedule that multiplies the rate of every group alike.
"""

from __future__ import annotations

import gc
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import lightning.pytorch as pl

from fulgurite.callback.optimizer_step import OptimizerStepCallback
from fulgurite.callback.progress import ProgressLine
from fulgurite.config.decision import Decision, Kind
from fulgurite.config.resolve import decide, halve, replace_parts
from fulgurite.errors import Interrupted, TrainingFailed, is_shortage
from fulgurite.files.atomic import write_output
from fulgurite.language.message import message
from fulgurite.logger.smoothing import RunningMean
from fulgurite.run.status import track_status
from fulgurite.scheduler.config import Scheduler
from fulgurite.text.console import say, show
from fulgurite.text.plot import Figure, draw_svg, draw_text
from fulgurite.train.fit import prepare_files
from fulgurite.train.lr_curve import RISEN, Proposal, compare_rates, compute_rate, propose, smooth
from fulgurite.train.oom import KNOB, Shortage, build_failure, catch_shortage, explain_whole
from fulgurite.train.pieces import Pieces


@dataclass(slots=True)
class Ramp(Scheduler):
    """A schedule that is none of the choices: geometrically from one rate to another."""

    builds: ClassVar[str] = "fulgurite.train.lr_finder:build_ramp"
    low: float = 0.0
    high: float = 1.0


def build_ramp(config: Ramp, *, total: int, lr: float) -> Callable[[int], float]:
    """The factor on every group's rate at each step, so that `optim.lr` itself goes from `low` to `high`."""
    return lambda step: compute_rate(step, config.low, config.high, total) / lr


class Curve(OptimizerStepCallback):
    """Keeps rate and loss of each optimizer step, and ends the fit if the loss diverges."""

    def __init__(self) -> None:
        super().__init__()
        self.rates: list[float] = []
        self.losses: list[float] = []
        self._mean = RunningMean(0.7)

    def on_step(self, trainer: pl.Trainer, stage: Any, step: int) -> None:
        """Keeps the numbers of the step."""
        self.rates.append(stage.step_record["train/lr"])
        self.losses.append(stage.step_record["train/loss"])
        # Against the highest of the first three losses, because a single one is noisy.
        if self._mean.add(self.losses[-1]) > RISEN * max(self.losses[:3]):
            trainer.should_stop = True


def find(pieces: Pieces) -> None:
    """The range test. Raises ConfigError if a rate cannot be found so, TrainingFailed if nothing could be measured."""
    run = pieces.composed.run
    # as long as the test; neither samples nor trackers see it
    stage = replace(run.stage, prompts=[]) if run.stage.speaks else run.stage
    steps, why = run.lr_finder.steps, message("the range test's steps")
    lengths = [
        Decision(f"trainer.{name}", steps, Kind.derived, why) for name in ("max_steps", "eval_every", "save_every")
    ]
    pieces.composed = decide(replace_parts(pieces.composed, logger={}, stage=stage), *lengths)
    pieces.troubles = []  # the rules judge a run, and this is none
    folder = pieces.folder
    with track_status(folder, name=run.name):
        report_curve(measure(pieces), pieces.composed.run.optim.lr, folder)


def measure(pieces: Pieces) -> Curve:
    """Train with the growing rate; a loss that is no number any more ends the test as divergence does."""
    # Twice at most: the first shortage of memory halves the micro-batch, the second is an error.
    for again in (False, True):
        with catch_shortage(pieces.gathered.seen):
            prepare_files(pieces)
        test, lr = pieces.composed.run.lr_finder, pieces.composed.run.optim.lr
        pieces.module.schedule = Ramp(low=test.min_lr or lr / 1000, high=test.max_lr or min(lr * 1000, 10.0))
        found = run_test(pieces)
        if isinstance(found, Curve):
            return found
        run = pieces.composed.run
        if why := explain_whole(run.stage, run.trainer.micro_batch_size, run.private, run.world_size, again):
            raise build_failure(run.trainer, run.data.max_length, run.method, run.optim, found, why)
        pieces.release()
        gc.collect()  # modules and trainer point at each other
        pieces.composed = halve(pieces.composed, found.step)
        micro_batch = pieces.composed.run.trainer.micro_batch_size
        say(
            message(
                "Out of memory at step {step}: the test begins again with {name}={micro_batch}; the results "
                "are the same.",
                step=found.step, name=KNOB, micro_batch=micro_batch,
            )
        )
    raise AssertionError("the second shortage is raised")


def run_test(pieces: Pieces) -> Curve | Shortage:
    """The curve of one test; if memory ran out, what is known of it. No checkpoint, sample or
    row of metrics is written."""
    curve, stage = Curve(), pieces.module
    stage.resumes_from = None  # the test begins with the weights of the start, whatever the folder holds
    trainer = pieces.build_trainer([curve, ProgressLine(stage.total_steps)])
    try:
        trainer.fit(stage, datamodule=pieces.data)
    except TrainingFailed as ended:
        # Too few points for a curve: the failure itself is the result.
        if len(curve.rates) < 10:
            raise
        # the first sentence of ours: what follows is the advice for a training
        first = re.split(r"\.\s|。", str(ended))[0]
        say(message("The test ends: {reason}", reason=first))
    except (RuntimeError, MemoryError) as error:
        if not is_shortage(error):
            raise
        return Shortage.of(stage, trainer.global_step + 1)
    except SystemExit as left:  # Lightning's answer to Ctrl-C
        raise Interrupted("Stopped; a range test keeps nothing, so start it again.") from left
    return curve


def report_curve(curve: Curve, derived: float, folder: Path) -> Proposal | None:
    """Draws the curve, writes it to find.jsonl and find.svg, and prints the proposal."""
    smoothed = smooth(curve.rates, curve.losses)
    rows = zip(curve.rates, curve.losses, smoothed, strict=True)
    lines = [json.dumps({"lr": r, "loss": y, "smoothed": s}) + "\n" for r, y, s in rows]
    write_output(folder / "find.jsonl", "".join(lines))
    found = propose(curve.rates, smoothed)
    inside = curve.rates[0] <= derived <= curve.rates[-1]
    marks = [*([("optim.lr", derived)] if inside else []), *([("proposed", found.rate)] if found else [])]
    # A loss that is not finite has no place in a figure.
    line = [(r, s) for r, s in zip(curve.rates, smoothed, strict=True) if math.isfinite(s)]
    points = list(zip(curve.rates, curve.losses, strict=True))
    figure = Figure("training loss by learning rate", "optim.lr", "loss", line, points, marks, True)
    write_output(folder / "find.svg", draw_svg(figure))
    show("\n" + draw_text(figure))
    if found is None:
        show(message(
            "\nThe loss falls at none of these rates, so that none can be proposed: take more steps "
            "(lr_finder.steps=100) or other data."
        ))
    else:
        show(message(
            "\nproposed optim.lr={rate:.2g}: {reason}. The lowest loss is at {lowest:.2g}.",
            rate=found.rate, reason=found.reason, lowest=found.lowest,
        ))
        show(f"{compare_rates(found.rate, derived)}.")
    show(message(
        "The curve: {rows}, {drawing}. Nothing that was trained is kept.",
        rows=folder / "find.jsonl", drawing=folder / "find.svg",
    ))
    return found
