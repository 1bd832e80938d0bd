"""A short measured probe: the real model, method, optimizer and data, for three micro-batches,
of which the last two are timed."""

from __future__ import annotations

import contextlib
import io
import time
from dataclasses import replace
from typing import Any

from lightning.pytorch import Callback

from fulgurite.config.decision import Kind
from fulgurite.config.resolve import MICRO_BATCH, note, replace_parts
from fulgurite.errors import RequestError
from fulgurite.language.message import message
from fulgurite.plan.timing import Timing
from fulgurite.scheduler.config import Constant
from fulgurite.train.pieces import Pieces

STEPS = 3
"""Micro-batches; the first pays for what is made once, and is not counted."""


class _Clock(Callback):  # type: ignore[misc]
    def __init__(self) -> None:
        self.passes: list[float] = []
        self.steps: list[float] = []
        self.tokens: list[int] = []
        self._since = 0.0

    def _lap(self, into: list[float], device: Any) -> None:
        if device.type == "cuda":
            import torch

            torch.cuda.synchronize()
        now = time.perf_counter()
        into.append(now - self._since)
        self._since = now

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.tokens.append(int(batch["tokens"]))
        self._since = time.perf_counter()

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self._lap(self.passes, pl_module.device)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._lap(self.steps, pl_module.device)


def measure(pieces: Pieces) -> Timing:
    """Loads the model and times it; nothing is written. Raises RequestError for runs whose
    steps are not of one kind."""
    gathered = pieces.gathered
    run = pieces.composed.run
    if gathered.encoded.source.reads.prompts or run.private or gathered.facts.processes > 1:
        what = (
            message("privacy")
            if run.private
            else message("several processes")
            if gathered.facts.processes > 1
            else f"stage={run.stage.name}"
        )
        raise RequestError(
            "--probe cannot time {what}, whose steps differ; train with trainer.max_steps=2 and read the speed "
            "there.",
            what=what,
        )
    rows = min(run.trainer.micro_batch_size, len(gathered.rows))
    short = replace_parts(
        pieces.composed, logger={}, scheduler=Constant(), trainer=replace(run.trainer, global_batch_size=rows),
        stage=replace(run.stage, prompts=[]) if run.stage.speaks else run.stage,
    )
    if (known := short.provenance.get(MICRO_BATCH)) is not None:
        short = note(short, replace(known, kind=Kind.confirmed))  # it is timed as it is, without a trial
    probed, clock = Pieces(short, pieces.source), _Clock()
    probed.dtypes, probed.troubles, probed.resume_plan = pieces.dtypes, [], None
    probed.gathered = replace(gathered, val=None, facts=replace(gathered.facts, total_steps=STEPS))
    with contextlib.redirect_stderr(io.StringIO()):
        probed.build_trainer([clock]).fit(probed.module, datamodule=probed.data)
    tokens = sum(clock.tokens[1:])
    return Timing(sum(clock.passes[1:]) / max(tokens, 1), sum(clock.steps[1:]) / (STEPS - 1), tokens)
