"""Makes the plan of a run: its facts and the findings of every rule. Loads no Lightning."""

from __future__ import annotations

from fulgurite.plan.prepare import Gathered, preview_checkpoint
from fulgurite.plan.report import PlanReport
from fulgurite.plan.rules import find_troubles
from fulgurite.plan.timing import Timing
from fulgurite.precision.policy import Dtypes


def judge_run(dtypes: Dtypes, gathered: Gathered, timing: Timing | None = None) -> PlanReport:
    """Returns what `fulgurite plan` shows of a run. Loads no weights."""
    # training reads the checkpoint itself
    seen = preview_checkpoint(gathered).seen
    return PlanReport(seen, dtypes, find_troubles(seen), seen.origins, timing)
