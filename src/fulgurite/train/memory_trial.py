"""A trial step before training: forward and backward of the longest rows at the derived
micro-batch, of which nothing is kept.

A micro-batch that does not fit is found now, not after hours when the longest rows have their turn.
A run that was tried is bit for bit one that was not. Lightning's BatchSizeFinder was looked at:
it takes the first batches, steps on them, and restores a checkpoint.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psutil
import torch
from torch import nn

from fulgurite.checkpoint import rng
from fulgurite.config.decision import Decision, Kind
from fulgurite.config.provenance import Composed
from fulgurite.config.resolve import decide
from fulgurite.data.dataset import AnyRows
from fulgurite.data.loader import collate_longest
from fulgurite.errors import is_shortage
from fulgurite.language.message import message
from fulgurite.plan.context import ModelFacts, PlanFacts
from fulgurite.plan.hardware import detect_machine
from fulgurite.plan.memory import count_state, estimate
from fulgurite.stage.base import Batch, StageModule
from fulgurite.stage.preference import PreferenceModule
from fulgurite.train.oom import KNOB, Shortage, build_failure
from fulgurite.trainer.device import device

NEEDLESS = 0.5
"""The share of a CPU's free memory below which an estimate is believed: the worst of the measured settings needed 1.15
times what was estimated (docs/memory.md), and others share the machine; a micro-batch takes
seconds there, on a GPU none."""


def confirm(composed: Composed, stage: StageModule, rows: AnyRows, seen: PlanFacts) -> Composed:
    """Halves a derived micro-batch until its longest rows go through, and records what was confirmed.

    Raises TrainingFailed if not even one example does.
    """
    run = composed.run
    if explain_untried(composed.provenance.get(KNOB), stage, rows, seen):
        return composed
    stage.to(torch.device(device(run.trainer)))
    if isinstance(stage, PreferenceModule):
        stage.place_reference()
    before = composed.provenance[KNOB]
    found = run.trainer.micro_batch_size
    while True:
        batch = collate_longest(rows, found, stage.ahead, run.seed)
        batch = stage.transfer_batch_to_device(batch, stage.device, 0)
        if has_room(stage, batch, seen.model, found):
            break
        # What the failed pass left behind would count against the next one.
        gc.collect()
        if stage.device.type == "cuda":
            torch.cuda.empty_cache()
        if found == 1:
            why = message(
                "it cannot be halved, and given as trainer.micro_batch_size=1 it is not tried beforehand"
            )
            run = decide(composed, replace(before, value=1)).run
            short = Shortage.of(stage, 0, batch)
            raise build_failure(run.trainer, run.data.max_length, run.method, run.optim, short, why)
        found //= 2
    reason = before.because
    if found < before.value:
        reason = message(
            "{asked} was out of memory in a trial step; the mathematics is the same for every value",
            asked=before.value,
        )
    confirmed = message(
        "{before}; confirmed by a trial step on the longest examples, {tokens} tokens",
        before=reason, tokens=batch["input_ids"].shape[1],
    )
    return decide(composed, Decision(KNOB, found, Kind.confirmed, confirmed))


def explain_untried(origin: Decision | None, stage: StageModule, rows: AnyRows, seen: PlanFacts) -> str:
    """Returns why there is no trial; an empty text if there is one. `origin` is the decision on the micro-batch."""
    run = stage.run
    if origin is None or not origin.derived:
        return "the value was given, and running out of memory halves it"
    if origin.kind in (Kind.confirmed, Kind.halved):
        return "it was confirmed, or found too large and halved, in an earlier part of the run"
    if run.world_size > 1:
        return "the processes must all have one value, and each would see other memory free"
    if not run.strategy.replicates:
        return "the trial would need memory for the whole model, which is divided later"
    if run.stage.rolls_out:
        return "there is nothing to learn from before answers are drawn, and a rollout is no trial"
    if run.private:
        return "its gradients are of one row each, by hooks of the mechanism, which keeps account of what passes them"
    if not type(stage).__module__.startswith("fulgurite."):
        return "the loss of a person's own stage may ask for its trainer, and there is none yet"
    if run.trainer.compile:
        return (
            "compiling for the longest rows takes minutes, and graphs compiled in another order may compute other bits"
        )
    if seen.machine.device == "cpu" and sys.platform != "linux":
        return "memory is granted and swapped there, never refused"
    rather = NEEDLESS * seen.machine.memory_free
    expected = estimate(run, seen.model, rows.lengths, seen.machine).training.total
    if seen.machine.device == "cpu" and expected < rather:
        return "the estimate is far below the free memory"
    return ""


def has_room(stage: StageModule, batch: Batch, model: ModelFacts, rows: int) -> bool:
    """Whether memory suffices for the micro-batch beside what a run holds from its second step on:
    gradients and optimizer state."""
    run, here = stage.run, stage.device
    accumulates = run.stage.count_examples_per_step(run.trainer.global_batch_size) > rows
    trained = [p for p in stage.parameters() if p.requires_grad]
    with restore_after(stage), limit_memory(here.type, detect_machine(run.trainer, run.world_size, None).memory_free):
        try:
            # The optimizer's state as one block of memory that is never written.
            held = torch.empty(count_state(run.optim, run.precision, model), dtype=torch.uint8, device=here)
            # After the first micro-batch of a step, gradients are there while the next one is computed.
            for parameter in trained if accumulates else ():
                parameter.grad = torch.zeros_like(parameter)
            with stage.dtypes.autocast(here.type):
                if "ahead" in batch:
                    stage.on_step_start(batch)
                loss = stage.compute_total_loss(batch)
            loss.backward()  # type: ignore[no-untyped-call]
            del held
        except (RuntimeError, MemoryError) as error:
            if not is_shortage(error):
                raise
            return False
    return True


@contextlib.contextmanager
def restore_after(stage: nn.Module) -> Iterator[None]:
    """Afterwards there are no gradients, and random states, buffers and the modules' attributes are those of before.

    Attributes too: a stage counts in them, and rotary embeddings that stretch remember the longest row they have seen.
    """
    here = next(stage.parameters()).device
    random = rng.capture(here)
    buffers = [(buffer, buffer.clone()) for buffer in stage.buffers()]
    kept = [(module, dict(vars(module)), _copy_insides(module)) for module in stage.modules()]
    try:
        yield
    finally:
        for parameter in stage.parameters():
            parameter.grad = None
        for module, attributes, insides in kept:
            # Cleared first, so that attributes that the trial added are gone.
            vars(module).clear()
            vars(module).update(attributes)
            for live, before in insides:
                live.clear()
                live.extend(before) if isinstance(live, list) else live.update(before)
        for buffer, values in buffers:
            buffer.copy_(values)
        rng.restore(random, here)


def _copy_insides(module: nn.Module) -> list[tuple[Any, Any]]:
    """The module's own dicts, lists and sets with copies of them. They are filled anew in place:
    hooks are found by their dict."""
    return [(value, value.copy()) for value in vars(module).values() if isinstance(value, dict | list | set)]


@contextlib.contextmanager
def limit_memory(kind: str, free: int) -> Iterator[None]:
    """Within, a CPU's process is refused what goes beyond the free memory, as an error that can be caught.

    Linux else grants it, and kills the process that touches it. RLIMIT_DATA counts what is private and writable,
    not the files that are mapped, as RLIMIT_AS would.
    """
    if kind != "cpu" or sys.platform != "linux":
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = psutil.Process().memory_info().data + free
    # A limit that was set before remains an upper bound.
    given = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(most, *given) if given else most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
