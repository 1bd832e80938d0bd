"""How far a step goes: gradients that are clipped, weights that do not move, or move too much."""

from __future__ import annotations

import statistics

from fulgurite.monitor import thresholds as limits
from fulgurite.monitor.history import TrainingFacts, Update, get_column
from fulgurite.monitor.rules import RULES, Moment
from fulgurite.monitor.rules.loss_curve import format_share
from fulgurite.rules.registry import Finding


@RULES.add("clip-share", "warning", at=Moment.step)
def check_clip_share(seen: TrainingFacts) -> Finding | None:
    """More than half of the steps after the warmup were clipped.

    Not under privacy, where each row is clipped and is meant to be.
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
        f"{clipped:.0%} of the last {len(rows)} steps were clipped: the gradient norm is {norm:.3g} in the middle, and "
        f"trainer.max_grad_norm={about.clip:g}. The logged norm is the one before clipping.",
        "If the loss falls, leave it: Adam undoes a constant scale (under optim=sgd it is a lower rate). If it does "
        "not fall, lower optim.lr.",
        {"share": clipped, "steps": len(rows), "median_norm": norm, "limit": about.clip},
    )


@RULES.add("norm-high", "warning", at=Moment.step)
def check_norm_high(seen: TrainingFacts) -> Finding | None:
    """The gradient norm stays above 100, or above 1,000 three steps in a row.

    The median: one wild step is what clipping is for. Not under privacy, where the norm is that of the noise.
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
    """The optimizer steps and the weights do not move.

    Twice nothing at all, or three times next to nothing at the full rate.
    """
    updates = _list_new(seen)
    live = [u for u in updates if u.lr > 0]
    if len(live) < 2:
        return None
    still = live[-2].ratio == live[-1].ratio == 0
    full = [u for u in live if u.lr >= limits.FULL_RATE * seen.about.lr]
    newest = full[-limits.MOVED_TIMES :]
    tiny = len(newest) == limits.MOVED_TIMES and all(u.ratio < limits.MOVED for u in newest)
    if not still and not tiny:
        return None
    what = "The adapter has" if seen.about.adapter else "The weights have"
    return Finding(
        f"{what} not moved: a step changes {'it' if seen.about.adapter else 'them'} by "
        f"{format_share(live[-1].ratio)} at "
        f"optim.lr="
        f"{seen.about.lr:g}; the rate is too low, or no gradient arrives.",
        f"Raise optim.lr, to {10 * seen.about.lr:.2g}; if train/grad_norm is 0, look at method.targets.",
        {"update_ratio": live[-1].ratio, "lr": seen.about.lr},
    )


@RULES.add("rounded-away", "warning", at=Moment.step)
def check_rounded_away(seen: TrainingFacts) -> Finding | None:
    """More than half of the bf16 weights stay as they were, step after step (rounding=nearest).

    Near the full rate only: small steps at the ends of a schedule are meant. By chance, or with Kahan, what is lost
    comes back.
    """
    about, rows = seen.about, seen.history.get_newest(limits.UNCHANGED_STEPS)
    full = [row for row in rows if row.get("train/lr", 0.0) >= limits.FULL_RATE * about.lr]
    shares = get_column(full, "train/unchanged")
    if not about.nearest or len(shares) < limits.UNCHANGED_STEPS or min(shares) <= limits.UNCHANGED:
        return None
    share, what = statistics.fmean(shares), "adapter's weights" if about.adapter else "weights"
    others = (
        "precision.rounding=stochastic (or kahan)"
        if about.alone
        else "precision=bf16, optim=adamw precision.rounding=stochastic"
    )
    return Finding(
        f"{share:.0%} of the {what} were left as they were by each of the last {len(shares)} steps: at "
        f"optim.lr={about.lr:g} a step is "
        "rounded away to the nearest bf16 number.",
        f"Take {others}, or a higher optim.lr.", {"unchanged": share, "lr": about.lr},
    )


@RULES.add("update-high", "warning", at=Moment.step)
def check_update_high(seen: TrainingFacts) -> Finding | None:
    """A step changes the weights by a share that no usual rate gives.

    Once by about the size of the weights, or twice by a fifth at the full rate. What begins at zero has no usual
    ratio at first.
    """
    updates = _list_new(seen)
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
        f"A step changes the trained weights by {format_share(ratio)} at optim.lr={seen.about.lr:g}; "
        f"at usual rates it is "
        f"0.001 % to 3 %.",
        "Lower optim.lr by ten.", {"update_ratio": ratio, "lr": seen.about.lr},
    )


def _report_norm(norms: list[float]) -> Finding:
    norm = statistics.median(norms)
    return Finding(
        f"The gradient norm was {norm:.3g} in the middle of the last {len(norms)} steps, and healthy runs stay below "
        f"{limits.NORM:g}.",
        "Lower optim.lr, look at the longest and strangest rows, and take precision=fp32 if this is "
        "fp16.", {"median_norm": norm},
    )


def _list_new(seen: TrainingFacts) -> list[Update]:
    """The update ratios, where this step added one."""
    updates = seen.history.updates
    return list(updates) if updates and updates[-1].step == seen.history.step else []
