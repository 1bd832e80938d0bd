"""How a run ended, by what the rules found: a run without findings is simply done."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fulgurite.language.message import UserMessage, message
from fulgurite.monitor import thresholds as limits
from fulgurite.monitor.history import History, get_column
from fulgurite.rules.registry import Severity

DIVERGING = ("above-chance", "diverged", "spike")
"""Rules whose value `before` is the loss from which the run rose."""


@dataclass(frozen=True, slots=True)
class RunEnding:
    """`warnings` are the findings that are more than notes, as `rule (step N)`; `diverged` is whether the loss stayed
    high to the end."""

    warnings: tuple[str, ...] = ()
    diverged: bool = False

    @property
    def state(self) -> str:
        """The state for status.json."""
        return "diverged" if self.diverged else "finished"

    def format_opening(self) -> UserMessage:
        """Returns the first words of a run's last line."""
        named = ", ".join(self.warnings)
        if self.diverged:
            return message(
                "Diverged: {warnings}; the model is not better than before training. It ended after", warnings=named
            )
        if len(self.warnings) == 1:
            return message("Ended with 1 warning: {warnings};", warnings=named)
        if self.warnings:
            return message("Ended with {count} warnings: {warnings};", count=len(self.warnings), warnings=named)
        return message("Done:")


def find_ending(history: History, findings: Sequence[Mapping[str, Any]]) -> RunEnding:
    """Returns the ending of a run with these steps and these rows of watch.jsonl."""
    serious = [row for row in findings if row["severity"] != Severity.note]
    return RunEnding(
        tuple(f"{row['rule']} (step {row['step']})" for row in serious),
        any(_is_still_high(history, row) for row in serious),
    )


def _is_still_high(history: History, finding: Mapping[str, Any]) -> bool:
    """Whether the last losses are still above the level from which this finding saw them rise."""
    before = finding.get("values", {}).get("before")
    losses = get_column(history.get_newest(limits.ENDING), "train/loss")
    if finding["rule"] not in DIVERGING or not isinstance(before, int | float) or not losses:
        return False
    now = statistics.fmean(losses)
    if finding["step"] > history.step - limits.ENDING:  # the rise is as new as the losses: the newest of them decides
        now = losses[-1]
    return math.isfinite(now) and now > before + limits.RISEN
