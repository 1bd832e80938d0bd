"""Rules about the time of a step."""

from __future__ import annotations

from fulgurite.language.message import message
from fulgurite.monitor import thresholds as limits
from fulgurite.monitor.history import TrainingFacts
from fulgurite.monitor.rules import RULES, Moment
from fulgurite.rules.registry import Finding


@RULES.add("data-waits", "warning", at=Moment.step)
def check_data_waits(seen: TrainingFacts) -> Finding | None:
    """A step waits longer for its data than it computes.

    Over the newest steps, without evaluations and checkpoints.
    """
    steps = seen.timed
    if steps < limits.WAIT_STEPS or seen.waited <= seen.computed or seen.waited < limits.WAIT_LEAST * steps:
        return None
    return Finding(
        message(
            "A step waits {waited:.0f} ms for its data and computes for {computed:.0f} ms.",
            waited=1000 * seen.waited / steps, computed=1000 * seen.computed / steps,
        ),
        message("Raise trainer.num_workers; put the data and the cache folder on a faster disk."),
        {"waited_a_step": seen.waited / steps, "computed_a_step": seen.computed / steps},
    )
