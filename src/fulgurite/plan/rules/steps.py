"""Rules about the number of steps, and about early stopping within them."""

from __future__ import annotations

import math

from fulgurite.language.message import message
from fulgurite.plan.context import PlanFacts
from fulgurite.plan.rules import rule
from fulgurite.plan.thresholds import FEW, LITTLE, MOST_EPOCHS, SHORT
from fulgurite.rules.registry import Finding, Severity


@rule("steps.too-few", "error", source="S16, P1: LlamaFactory #7486 (91 rows, 17 steps)", insist=True)
def check_too_few(seen: PlanFacts) -> Finding | None:
    """So few optimizer steps that the model hardly changes; an error below 10, if nobody asked for so few."""
    if seen.data is None or seen.steps >= SHORT or seen.is_given("trainer.max_steps"):
        return None  # trainer.max_steps=20 is a try on purpose
    trainer = seen.run.trainer
    sentence = message(
        "The run has {steps} optimizer steps ({rows:,} examples, batch {batch}, {epochs:g} epochs); with fewer than "
        "{little} a model rarely changes, with fewer than {short} check whether it did.",
        steps=seen.steps, rows=seen.data.rows, batch=trainer.global_batch_size, epochs=trainer.epochs,
        little=LITTLE, short=SHORT,
    )
    severity = Severity.error if seen.steps < FEW else Severity.warning if seen.steps < LITTLE else Severity.note
    return Finding(sentence, _suggest_more_steps(seen), severity=severity)


def _suggest_more_steps(seen: PlanFacts) -> str:
    """Smaller batches if the batch was given or the epochs are as many as is usual, else more epochs."""
    trainer, enough = seen.run.trainer, LITTLE if seen.steps < LITTLE else SHORT
    size: int = trainer.global_batch_size
    if size > 8 and (seen.is_given("trainer.global_batch_size") or trainer.epochs >= MOST_EPOCHS):
        return f"trainer.global_batch_size={max(8, size * seen.steps // enough)}"
    if trainer.epochs < MOST_EPOCHS:
        wanted = math.ceil(trainer.epochs * enough / max(seen.steps, 1))
        return f"trainer.epochs={min(MOST_EPOCHS, max(2, wanted))}"
    return "plan.allow=[steps.too-few]"


@rule(
    "steps.patience", "warning", source="Ours: Lightning's EarlyStopping counts evaluations, and a run has few of them"
)
def check_patience(seen: PlanFacts) -> Finding | None:
    """An early-stopping patience that a run with so few evaluations cannot use up before its end."""
    trainer = seen.run.trainer
    if trainer.early_stopping_patience is None or not trainer.eval_every or not seen.steps:
        return None
    evaluations = -(-seen.steps // trainer.eval_every)
    # one that is the best, and so many after it, the last of them before the end
    if evaluations > trainer.early_stopping_patience + 1:
        return None
    often = max(1, seen.steps // (3 * trainer.early_stopping_patience))
    return Finding(
        message(
            "trainer.early_stopping_patience={patience} cannot end this run early: it waits for {patience} "
            "evaluations after the best one, and {steps:,} steps have {evaluations} (trainer.eval_every={every}).",
            patience=trainer.early_stopping_patience, steps=seen.steps, evaluations=evaluations,
            every=trainer.eval_every,
        ),
        f"trainer.eval_every={often}" if often < trainer.eval_every else "trainer.early_stopping_patience=null",
    )
