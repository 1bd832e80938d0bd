"""How many steps there are, and how the rate goes over them."""

from __future__ import annotations

import math

from fulgurite.plan.facts import Seen
from fulgurite.plan.rules import rule
from fulgurite.plan.rules.bands import FEW, LITTLE, SHORT
from fulgurite.plan.trouble import Say, Severity


@rule("steps.too-few", "error", source="S16, P1: LlamaFactory #7486 (91 rows, 17 steps)", insist=True)
def too_few(seen: Seen) -> Say | None:
    """So few optimizer steps that the model can hardly change; an error below 10, where nobody asked for so few."""
    if seen.data is None or seen.steps >= SHORT or seen.given("trainer.max_steps"):
        return None  # who writes trainer.max_steps=20 wants to see that it works
    trainer = seen.run.trainer
    sentence = (
        f"The plan is {seen.steps} optimizer steps ({seen.data.rows:,} rows, batch {trainer.batch_size}, {trainer.epochs:g} epochs); "
        f"below {LITTLE} a model rarely changes, below {SHORT} see whether it did."
    )
    severity = Severity.error if seen.steps < FEW else Severity.warning if seen.steps < LITTLE else Severity.note
    return Say(sentence, _more_steps(seen), severity)


def _more_steps(seen: Seen) -> str:
    """Smaller batches where the batch was given, else more epochs: enough for the next threshold, as far as that is sane."""
    trainer, enough = seen.run.trainer, LITTLE if seen.steps < LITTLE else SHORT
    size: int = trainer.batch_size
    if size > 8 and seen.given("trainer.batch_size"):
        return f"trainer.batch_size={max(8, size * seen.steps // enough)}"
    return f"trainer.epochs={min(5, max(2, math.ceil(trainer.epochs * enough / max(seen.steps, 1))))}"
