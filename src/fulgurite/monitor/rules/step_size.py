"""Rules about the size of a step: clipped gradients, and weights that change too little or too much."""

from __future__ import annotations

import statistics

from fulgurite.language.message import message
from fulgurite.monitor import thresholds as limits
from fulgurite.monitor.history import TrainingFacts, Update, get_column
from fulgurite.monitor.rules import RULES, Moment
from fulgurite.monitor.rules.loss_curve import format_share, suggest_higher, suggest_lower
from fulgurite.rules.registry import Finding


@RULES.add("clip-share", "warning", at=Moment.step)
def check_clip_share(seen: TrainingFacts) -> Finding | None:
    """More than half of the steps after the warmup were clipped.

    Not under privacy, which clips each example on purpose.
    """
    about = seen.about
    if about.private or not about.clip or seen.history.step < about.warmup + limits.CLIP_STEPS:
        return None
    rows = [row for row in seen.history.recent if row["step"] > about.warmup]
    clipped = statistics.fmean(get_column(rows, "train/clipped"))
    if len(rows) < limits.CLIP_STEPS or clipped <= limits.CLIPPED:
        return None
    norm = statistics.median(get_column(rows, "train/grad_norm"))
    return Finding(
        message(
            "{share:.0%} of the last {steps} steps were clipped: the median gradient norm is {norm:.3g}, and "
            "trainer.max_grad_norm={limit:g}. The logged norm is the one before clipping.",
            share=clipped, steps=len(rows), norm=norm, limit=about.clip,
        ),
        message(
            "If the loss falls, change nothing: Adam undoes a constant scale (under optim=sgd it is a lower rate). If "
            "it does not fall, lower optim.lr."
        ),
        {"share": clipped, "steps": len(rows), "median_norm": norm, "limit": about.clip},
    )


@RULES.add("norm-high", "warning", at=Moment.step)
def check_norm_high(seen: TrainingFacts) -> Finding | None:
    """The gradient norm stays above 100, or above 1,000 in three steps in a row.

    The median counts: clipping is there for a single wild step. Not under privacy, where the norm is that of the noise.
    """
    norms = get_column(seen.history.get_newest(limits.NORM_STEPS), "train/grad_norm")
    if seen.about.private:
        return None
    wild = norms[-limits.NORM_WILD_STEPS :]
    if len(wild) == limits.NORM_WILD_STEPS and min(wild) > limits.NORM_WILD:
        return _report_norm(wild)
    if len(norms) < limits.NORM_STEPS or seen.history.step <= seen.about.warmup or norms[-1] <= limits.NORM:
        return None
    norm = statistics.median(norms)
    if norm <= limits.NORM:
        return None
    return _report_norm(norms)


@RULES.add("adapter-moves", "warning", at=Moment.step)
def check_adapter_moves(seen: TrainingFacts) -> Finding | None:
    """The optimizer makes steps and the weights do not change.

    Two steps without any change, or three with next to none at the full rate.
    """
    updates = _list_new(seen)
    # At a rate of 0, as in the first step of a warmup, nothing should move.
    live = [u for u in updates if u.lr > 0]
    if len(live) < 2:
        return None
    still = live[-2].ratio == live[-1].ratio == 0
    full = [u for u in live if u.lr >= limits.FULL_RATE * seen.about.lr]
    newest = full[-limits.MOVED_TIMES :]
    tiny = len(newest) == limits.MOVED_TIMES and all(u.ratio < limits.MOVED for u in newest)
    if not still and not tiny:
        return None
    about = {"lr": seen.about.lr, "share": format_share(live[-1].ratio)}
    return Finding(
        message(
            "The adapter has not moved: at optim.lr={lr:g} a step changes it by {share}; the rate is too low, or no "
            "gradient arrives.",
            **about,
        ) if seen.about.adapter else message(
            "The weights have not moved: at optim.lr={lr:g} a step changes them by {share}; the rate is too low, or no "
            "gradient arrives.",
            **about,
        ),
        message(
            "If train/grad_norm is 0, check method.targets. Otherwise: {remedy}",
            remedy=suggest_higher(seen.about, 10),
        ),
        {"update_ratio": live[-1].ratio, "lr": seen.about.lr},
    )


@RULES.add("rounded-away", "warning", at=Moment.step)
def check_rounded_away(seen: TrainingFacts) -> Finding | None:
    """More than half of the bf16 weights stay as they were, step after step (rounding=nearest).

    Only near the full rate: small steps at the ends of a schedule are intended. Stochastic and Kahan rounding make up
    for the loss.
    """
    about, rows = seen.about, seen.history.get_newest(limits.UNCHANGED_STEPS)
    full = [row for row in rows if row.get("train/lr", 0.0) >= limits.FULL_RATE * about.lr]
    shares = get_column(full, "train/unchanged")
    if not about.nearest or len(shares) < limits.UNCHANGED_STEPS or min(shares) <= limits.UNCHANGED:
        return None
    return Finding(
        message(
            "{share:.0%} of the trained weights did not change in each of the last {steps} steps: at optim.lr={lr:g} a "
            "step is rounded away to the nearest bf16 number.",
            share=statistics.fmean(shares), steps=len(shares), lr=about.lr,
        ),
        message("Use precision.rounding=stochastic (or kahan), or a higher optim.lr.") if about.alone else message(
            "Use precision=bf16, or optim=adamw precision.rounding=stochastic, or a higher optim.lr."
        ),
        {"unchanged": statistics.fmean(shares), "lr": about.lr},
    )


@RULES.add("update-high", "warning", at=Moment.step)
def check_update_high(seen: TrainingFacts) -> Finding | None:
    """A step changes the weights by a share that no usual rate gives.

    Once by about the size of the weights, or twice by a fifth at the full rate. Weights that start at zero have no
    usual ratio at first.
    """
    updates = _list_new(seen)
    # Weights that are all zero have no ratio: then the first one is of a later step.
    began_at_zero = seen.history.first_update != 1
    if not updates:
        return None
    ratio, grown = updates[-1].ratio, updates[-1].step >= limits.GROWN
    large = ratio >= limits.UPDATE_SIZE and (grown or not (began_at_zero or seen.about.multiplied))
    full = [u for u in updates if u.step >= limits.SETTLED and u.lr >= limits.FULL_RATE * seen.about.lr]
    twice = not began_at_zero and len(full) > 1 and min(full[-2].ratio, full[-1].ratio) > limits.UPDATE_HIGH
    if not large and not (twice and full[-1] is updates[-1]):
        return None
    return Finding(
        message(
            "A step changes the trained weights by {share} at optim.lr={lr:g}; usual rates change them by 0.001 % to 3 "
            "%.",
            share=format_share(ratio), lr=seen.about.lr,
        ),
        suggest_lower(seen.about), {"update_ratio": ratio, "lr": seen.about.lr},
    )


def _report_norm(norms: list[float]) -> Finding:
    norm = statistics.median(norms)
    return Finding(
        message(
            "The median gradient norm of the last {steps} steps was {norm:.3g}; in healthy runs it is below {limit:g}.",
            steps=len(norms), norm=norm, limit=limits.NORM,
        ),
        message("Lower optim.lr, and check the longest and strangest examples; if this is fp16, use precision=fp32."),
        {"median_norm": norm},
    )


def _list_new(seen: TrainingFacts) -> list[Update]:
    """Returns the update ratios if this step added one, else nothing."""
    updates = seen.history.updates
    return list(updates) if updates and updates[-1].step == seen.history.step else []
