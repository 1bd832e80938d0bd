"""Finds changes under which the same run needs less memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from fulgurite.config.compose import compose
from fulgurite.config.facts import Facts
from fulgurite.config.resolve import fill
from fulgurite.errors import RequestError
from fulgurite.method.config import Method
from fulgurite.plan.context import Cheaper, Memory, PlanFacts
from fulgurite.plan.memory import estimate
from fulgurite.plan.outline import read_outline
from fulgurite.precision.policy import Dtypes
from fulgurite.trainer.config import Trainer

TIGHT = 0.8
"""The share of the free memory above which something cheaper is looked for."""


def find_cheaper(overrides: Sequence[str], dtypes: Dtypes, facts: Facts, seen: PlanFacts) -> list[Cheaper]:
    """Returns the same run under words that need ever less memory, each added to those before it; empty if there is
    room enough."""
    if seen.memory is None or seen.memory.peak <= TIGHT * seen.machine.memory_free:
        return []
    run, found = seen.run, list[Cheaper]()
    can_checkpoint = not run.stage.rolls_out and not run.private
    words: list[str] = []
    for word in _list_words(run.trainer, run.method, can_checkpoint):
        # A later word replaces an earlier one of the same parameter, as qlora replaces lora.
        words = [w for w in words if w.partition("=")[0] != word.partition("=")[0]] + [word]
        try:
            memory = _estimate_under([*overrides, *words], dtypes, facts, seen)
        except RequestError:  # these words cannot be combined with the run
            words.remove(word)
            continue
        found.append(Cheaper(" ".join(words), memory.peak))
    return found


def _list_words(trainer: Trainer, method: Method, can_checkpoint: bool) -> Iterator[str]:
    """From the mildest: the mathematics stays the same, then the optimizer's state is coarser, then the method is
    another."""
    if (trainer.micro_batch_size or 1) > 1:
        yield "trainer.micro_batch_size=1"
    if can_checkpoint and not trainer.gradient_checkpointing:
        yield "trainer.gradient_checkpointing=true"
    if method.kin == "full":
        yield "optim=adamw_8bit"
        yield "method=lora"
    if not method.quantised:
        yield "method=qlora"


def _estimate_under(words: list[str], dtypes: Dtypes, facts: Facts, seen: PlanFacts) -> Memory:
    other = compose(words)
    known = replace(facts)
    other = fill(fill(other, known, "data"), known, "steps")
    # Building an outline takes time, and only another method has other weights.
    model = read_outline(other.run, dtypes).facts if type(other.run.method) is not type(seen.run.method) else seen.model
    lengths = seen.data.row_lengths if seen.data is not None else None
    return estimate(other.run, model, lengths, seen.machine)
