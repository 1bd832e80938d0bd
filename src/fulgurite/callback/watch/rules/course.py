"""Where the loss goes: up, nowhere, or up in validation alone."""

from __future__ import annotations

import math
import statistics
from itertools import pairwise

from fulgurite.callback.watch import limits
from fulgurite.callback.watch.chance import error_of_difference
from fulgurite.callback.watch.rules import Finding, Moment, rule
from fulgurite.callback.watch.seen import FIRST, Seen, column

FALLS = ("sft", "pt", "rm", "dpo", "kto")
"""Stages whose loss is to fall. A rollout's hangs on the answers that were drawn."""
UNBOUNDED = ("ipo", "sppo_hard")
"""Squares of log ratios: they are not in nats."""


@rule("spike", Moment.step)
def spike(seen: Seen) -> Finding | None:
    """Losses far above the median of those before them."""
    losses = column(seen.trail.recent, "train/loss")
    before, now = losses[: -limits.SPIKE_STEPS], losses[-limits.SPIKE_STEPS :]
    if seen.about.stage not in FALLS or len(before) < limits.BEFORE_SPIKE or min(now) <= limits.SPIKE_NATS:
        return None
    median = statistics.median(before)
    if min(now) <= max(limits.SPIKE * median, median + limits.SPIKE_NATS):
        return None
    start = seen.trail.step - limits.SPIKE_STEPS + 1
    return Finding(
        f"The loss jumped from {median:.3g} to {statistics.fmean(now):.3g} at step {start} and stays there.{_best(seen)}",
        "Lower optim.lr, or give it a longer scheduler.warmup_ratio.", {"before": median, "now": statistics.fmean(now), "since": start},
    )


@rule("diverged", Moment.step)
def diverged(seen: Seen) -> Finding | None:
    """Against the first steps, by more than chance."""
    about, trail, n = seen.about, seen.trail, limits.RISEN_STEPS
    if about.stage not in FALLS or about.loss in UNBOUNDED or not trail.whole or trail.step < 2 * n or trail.step <= about.warmup:
        return None
    first, now = column(trail.first[:n], "train/loss"), column(trail.newest(n), "train/loss")
    if len(first) < n or len(now) < n:
        return None
    a, b = statistics.fmean(first), statistics.fmean(now)
    if b - a <= limits.RISEN or b - a <= limits.RISEN_ERRORS * error_of_difference(first, now):
        return None
    return Finding(
        f"The loss is higher than at the start: {b:.3g} over the last {n} steps, {a:.3g} over the first.{_best(seen)}",
        "Lower optim.lr (by ten), and begin again.", {"first": a, "now": b},
    )


@rule("plateau", Moment.step)
def plateau(seen: Seen) -> Finding | None:
    """Asked once: a hundred steps after the warmup, or at the end of a shorter run. Silent where noise hides the answer."""
    about, trail = seen.about, seen.trail
    due = about.warmup + limits.PLATEAU_STEPS
    short = due > about.total >= limits.PLATEAU_SHORT
    if about.stage not in FALLS or not trail.whole or trail.step != (about.total if short else due):
        return None
    n = min(limits.PLATEAU_WINDOW, about.total // 3, FIRST)
    first, now = column(trail.first[:n], "train/loss"), column(trail.newest(n), "train/loss")
    if len(first) < 3 or len(now) < 3:
        return None
    a, b, error = statistics.fmean(first), statistics.fmean(now), error_of_difference(first, now)
    fall = a - b
    if fall > min(limits.PLATEAU_FALL * abs(a), 2 * error) or fall + 2 * error > limits.PLATEAU_SURE * abs(a):
        return None
    values: dict[str, float | int | str] = {"first": a, "now": b, "standard_error": error, "lr": about.lr}
    known = f"; at optim.lr={about.lr:g}"
    low = True
    if trail.updates:
        ratio = max(u.ratio for u in trail.updates)
        values["update_ratio"] = ratio
        known += f" a step changes the trained weights by {share(ratio)}"
        low = ratio < limits.LOW_UPDATE["adapter" if about.adapter else "whole"]
    return Finding(
        f"The loss has not fallen in {trail.step} steps ({a:.4g} → {b:.4g}){known}.",
        "Raise optim.lr (leave it empty for the usual one)." if low
        else "The weights do move: look at the labels (data.mask) and the chat format; or the model knows these data already.", values,
    )


@rule("overfit", Moment.evaluation)
def overfit(seen: Seen) -> Finding | None:
    """Validation up and training down since the best evaluation."""
    evaluations, n = seen.trail.evaluations, limits.EVALUATIONS
    if seen.about.stage not in FALLS or len(evaluations) <= n:
        return None
    last = evaluations[-n - 1 :]
    best, now = min(evaluations, key=lambda e: e.val), last[-1]
    rises = all(b.val > a.val for a, b in pairwise(last))
    if not rises or now.val - best.val < limits.OVERFIT_RISE * abs(best.val) or not now.train < last[0].train:
        return None
    return Finding(
        f"The validation loss has risen {n} evaluations running ({best.val:.4g} at step {best.step}, {now.val:.4g} now) while the training "
        f"loss falls; the best checkpoint is that of step {best.step}.",
        "Take checkpoints/best, fewer trainer.epochs or a lower optim.lr; let the samples decide, not this number alone.",
        {"best_step": best.step, "best": best.val, "now": now.val, "train_then": last[0].train, "train_now": now.train},
    )


def _best(seen: Seen) -> str:
    known = [e for e in seen.trail.evaluations if math.isfinite(e.val)]
    return f" The best evaluation was that of step {min(known, key=lambda e: e.val).step}." if known else ""


def share(ratio: float) -> str:
    """A share in plain words."""
    return f"{ratio:.2%}" if ratio >= 1e-3 else f"{ratio:.1e} of their size"
