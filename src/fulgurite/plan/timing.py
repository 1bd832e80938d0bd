"""The time of a run, extrapolated from a few measured micro-batches."""

from __future__ import annotations

from dataclasses import dataclass

from fulgurite.language.message import UserMessage, message
from fulgurite.plan.context import PlanFacts

FORWARD = 1 / 3
"""Cost of an evaluation relative to a training step: one forward pass of one forward and two backward (arithmetic)."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Measured seconds per token of a micro-batch, and per optimizer step."""

    token: float
    optimizer: float
    tokens: int
    """How many tokens were timed."""

    def estimate_seconds(self, seen: PlanFacts) -> dict[str, float]:
        """Estimates the run's seconds of training and of evaluation."""
        d, t = seen.data, seen.run.trainer
        assert d is not None
        # Tokens of an average row: a batch is counted in rows, and the measurement in tokens.
        each = d.tokens / max(d.rows, 1)
        train = seen.steps * (t.global_batch_size * each * self.token / seen.machine.processes + self.optimizer)
        times = -(-seen.steps // (t.eval_every or seen.steps)) if d.val_rows else 0
        return {
            "training": train,
            "evaluation": times * d.val_rows * each * self.token * FORWARD / seen.machine.processes,
        }

    def describe(self, seen: PlanFacts) -> UserMessage:
        """Describes the estimate and what it was measured on."""
        found = self.estimate_seconds(seen)
        return message(
            "about {training} of training and {evaluation} of evaluation: measured now on {tokens:,} tokens, "
            "{speed:,.0f} tokens/s, and {optimizer:.2g} s an optimizer step; samples and checkpoints are extra",
            training=format_seconds(found["training"]), evaluation=format_seconds(found["evaluation"]),
            tokens=self.tokens, speed=1 / self.token, optimizer=self.optimizer,
        )


def format_seconds(seconds: float) -> str:
    """Formats a duration: `40 s`, `12 min`, `3.4 h`."""
    # A unit is kept up to twice the next one, because 90 s is read more easily than 1.5 min; hours up to 96, then days.
    for unit, size in (("s", 60.0), ("min", 60.0), ("h", 48.0)):
        if seconds < 2 * size:
            return f"{seconds:.3g} {unit}"
        seconds /= size if unit != "h" else 24.0
    return f"{seconds:.3g} days"
