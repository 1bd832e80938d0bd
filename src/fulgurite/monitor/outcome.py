"""How a run ended, by what the rules found: only a run of which nothing was found is simply done."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fulgurite.monitor import thresholds as limits
from fulgurite.monitor.history import History, get_column
from fulgurite.rules.registry import Severity

DIVERGING = ("above-chance", "diverged", "spike")
"""Rules that say from which loss the run rose, as the value `before`."""


@dataclass(frozen=True, slots=True)
class RunEnding:
    """`warnings` are the findings that are more than notes, as `rule (step N)`; `diverged` is whether the loss
    stayed up to the end."""

    warnings: tuple[str, ...] = ()
    diverged: bool = False

    @property
    def state(self) -> str:
        """The state for status.json."""
        return "diverged" if self.diverged else "finished"

    def format_opening(self) -> str:
        """The first words of a run's last line."""
        named = ", ".join(self.warnings)
        if self.diverged:
            return f"Diverged: {named}; the model is not better than before training. It ended after"
        if self.warnings:
            return f"Ended with {len(self.warnings)} warning{'s' if len(self.warnings) > 1 else ''}: {named};"
        return "Done:"


def find_ending(history: History, findings: Sequence[Mapping[str, Any]]) -> RunEnding:
    """The ending of a run with these steps and these rows of watch.jsonl."""
    told = [row for row in findings if row["severity"] != Severity.note]
    return RunEnding(
        tuple(f"{row['rule']} (step {row['step']})" for row in told), any(_is_still_high(history, row) for row in told)
    )


def _is_still_high(history: History, finding: Mapping[str, Any]) -> bool:
    """Whether the last losses are still above the level from which this finding saw them rise."""
    before = finding.get("values", {}).get("before")
    losses = get_column(history.get_newest(limits.ENDING), "train/loss")
    if finding["rule"] not in DIVERGING or not isinstance(before, int | float) or not losses:
        return False
    now = statistics.fmean(losses)
    if finding["step"] > history.step - limits.ENDING:  # the rise is as new as the losses: the newest of them tells
        now = losses[-1]
    return math.isfinite(now) and now > before + limits.RISEN
