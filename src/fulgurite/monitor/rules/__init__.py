"""The rules that monitor a run, one file per theme: each is a pure function of `TrainingFacts`.

Stages check some things themselves, and stop for them: a dpo or kto loss that is not its value at policy = reference, a
ratio or divergence that is not 1 and 0 at the first step, a divergence that runs away (ppo 10 nats an answer, grpo 2 a
token) or is below zero, sampling from another policy, a loss or gradient norm that is not finite.
"""

from __future__ import annotations

from enum import StrEnum

from fulgurite.monitor.history import TrainingFacts
from fulgurite.rules.registry import Registry


class Moment(StrEnum):
    """When a rule is checked: after each optimizer step, evaluation, and set of samples; at the end of the run."""

    step = "step"
    evaluation = "evaluation"
    samples = "samples"
    end = "end"


RULES: Registry[TrainingFacts] = Registry()
"""Every rule that watches a run."""

RULES.load(__name__, ("first_step", "loss_curve", "step_size", "preferences", "samples", "throughput"))
