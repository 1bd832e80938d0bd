"""Rules about the loss: it rises, it stays, or it rises in validation alone."""

from __future__ import annotations

import math
import statistics
from itertools import pairwise

from fulgurite.language.message import UserMessage, message
from fulgurite.monitor import thresholds as limits
from fulgurite.monitor.history import FIRST, About, Row, TrainingFacts, get_column
from fulgurite.monitor.rules import RULES, Moment
from fulgurite.monitor.statistics import compute_error_of_difference, estimate_noise
from fulgurite.rules.registry import Finding


@RULES.add("above-chance", "stop", at=Moment.step)
def check_above_chance(seen: TrainingFacts) -> Finding | None:
    """The loss stays above ln(vocabulary), the loss of a model that has learned nothing (sft, pt).

    A few losses in a row. A run that is too short for them is judged by all its losses after the first.
    """
    history, n = seen.history, min(limits.ABOVE_STEPS, max(seen.about.total - 1, 1))
    rows = history.get_newest(n)
    if len(rows) < n or rows[0]["step"] < 2 or not all(_is_above(seen, row) for row in rows):
        return None
    now, chance = statistics.fmean(get_column(rows, "train/loss")), math.log(seen.about.vocab)
    return Finding(
        message(
            "The loss is {now:.3g} over the last {steps} steps, but a model that has learned nothing has "
            "ln({vocabulary:,}) = {chance:.3g}: what the model knew is lost.{best}",
            now=now, steps=n, vocabulary=seen.about.vocab, chance=chance, best=_describe_best(seen),
        ),
        suggest_lower(seen.about),
        {"now": now, "ln_vocabulary": chance, "steps": n, "lr": seen.about.lr},
    )


@RULES.add("val-not-finite", "stop", at=Moment.evaluation)
def check_val_not_finite(seen: TrainingFacts) -> Finding | None:
    """The validation loss is not a finite number.

    A training loss or gradient that is not finite ends the run by itself.
    """
    evaluations = seen.history.evaluations
    if not evaluations or math.isfinite(evaluations[-1].val):
        return None
    last = evaluations[-1]
    return Finding(
        message(
            "The validation loss is {loss} at step {step}: the weights or the evaluation overflow.{best}",
            loss=last.val, step=last.step, best=_describe_best(seen),
        ),
        message("Lower optim.lr.") if seen.about.exact else message("Lower optim.lr, or use precision=fp32."),
        {"step": last.step},
    )


@RULES.add("spike", "warning", at=Moment.step)
def check_spike(seen: TrainingFacts) -> Finding | None:
    """The loss jumps far above its level, by more than the noise between steps explains.

    A few losses in a row above the level of those before, from the third step on. `check_diverged` finds losses above
    chance.
    """
    about, losses = seen.about, get_column(seen.history.recent, "train/loss")
    n = _count_jump_steps(seen)
    # The last n losses are the suspects; the level is that of everything before.
    before, now = losses[:-n], losses[-n:]
    if about.kind.rolls_out or not before or all(_is_above(seen, row) for row in seen.history.get_newest(n)):
        return None
    level = _compute_level(before)
    # All of them must be high: a single batch may be odd.
    if min(now) <= level + _compute_jump_margin(seen, before):
        return None
    start = seen.history.step - n + 1
    return Finding(
        message(
            "The loss jumped from {before:.3g} to {now:.3g} at step {step} and did not come back.{best}",
            before=level, now=statistics.fmean(now), step=start, best=_describe_best(seen),
        ),
        message("Lower optim.lr, or use a longer warmup."),
        {"before": level, "now": statistics.fmean(now), "since": start},
    )


@RULES.add("diverged", "warning", at=Moment.step)
def check_diverged(seen: TrainingFacts) -> Finding | None:
    """The loss is clearly higher than in the first steps, or above ln(vocabulary) (sft, pt).

    At once if the loss is above chance; else against the first steps, by more than noise explains.
    """
    about, history, n = seen.about, seen.history, limits.RISEN_STEPS
    if history.step > 1 and _is_clearly_above(seen):
        return _report_above(seen)
    if about.kind.rolls_out or about.declared_loss.squared or not history.whole or history.step < 2 * n:
        return None
    first, now = get_column(history.first[:n], "train/loss"), get_column(history.get_newest(n), "train/loss")
    # Rows without a loss, such as empty private steps, are left out of the columns.
    if len(first) < n or len(now) < n:
        return None
    a, b = statistics.fmean(first), statistics.fmean(now)
    if b - a <= limits.RISEN or b - a <= limits.RISEN_ERRORS * compute_error_of_difference(first, now):
        return None
    return Finding(
        message(
            "The loss is higher than at the start: {now:.3g} over the last {steps} steps, {before:.3g} over the first "
            "{steps}.{best}",
            now=b, before=a, steps=n, best=_describe_best(seen),
        ),
        suggest_lower(about), {"before": a, "now": b},
    )


@RULES.add("diverged", at=Moment.evaluation)
def check_diverged_in_validation(seen: TrainingFacts) -> Finding | None:
    """The validation loss is above ln(vocabulary). It counts all labels, whatever the training loss counts (dft)."""
    if not seen.about.kind.next_token or not seen.history.evaluations:
        return None
    last, highest = (
        seen.history.evaluations[-1],
        max(math.log(seen.about.vocab), _get_first_loss(seen)) + limits.ABOVE_CHANCE,
    )
    if not math.isfinite(last.val) or last.val <= highest:
        return None
    return Finding(
        message(
            "The validation loss is {loss:.3g}, but a model that has learned nothing has ln({vocabulary:,}) = "
            "{chance:.3g}.{best}",
            loss=last.val, vocabulary=seen.about.vocab, chance=math.log(seen.about.vocab), best=_describe_best(seen),
        ),
        suggest_lower(seen.about), {"before": _get_first_loss(seen), "now": last.val},
    )


@RULES.add("plateau", "warning", at=Moment.step)
def check_plateau(seen: TrainingFacts) -> Finding | None:
    """The loss has not fallen in the first hundred steps after the warmup.

    Checked once: a hundred steps after the warmup, or at the end of a shorter run. No finding if noise hides the
    answer.
    """
    about, history = seen.about, seen.history
    # During the warmup the rate is too small for a fall to be expected.
    due = about.warmup + limits.PLATEAU_STEPS
    short = due > about.total >= limits.PLATEAU_SHORT
    if about.kind.rolls_out or not history.whole or history.step != (about.total if short else due):
        return None
    # A third at most, so that the two windows of a short run do not touch.
    n = min(limits.PLATEAU_WINDOW, about.total // 3, FIRST)
    first, now = get_column(history.first[:n], "train/loss"), get_column(history.get_newest(n), "train/loss")
    if len(first) < 3 or len(now) < 3:
        return None
    a, b, error = statistics.fmean(first), statistics.fmean(now), compute_error_of_difference(first, now)
    fall = a - b
    # No finding if it fell clearly, and none if the noise is too large to exclude a real fall.
    if fall > min(limits.PLATEAU_FALL * abs(a), 2 * error) or fall + 2 * error > limits.PLATEAU_SURE * abs(a):
        return None
    values: dict[str, float | int | str] = {"first": a, "now": b, "standard_error": error, "lr": about.lr}
    facts = {"steps": history.step, "first": a, "now": b, "lr": about.lr}
    low = True
    sentence = message(
        "The loss has not fallen in {steps} steps ({first:.4g} → {now:.4g}) at optim.lr={lr:g}.", **facts
    )
    if history.updates:
        ratio = max(u.ratio for u in history.updates)
        values["update_ratio"] = ratio
        sentence = message(
            "The loss has not fallen in {steps} steps ({first:.4g} → {now:.4g}); at optim.lr={lr:g} a step changes "
            "the trained weights by {share}.",
            **facts, share=format_share(ratio),
        )
        low = ratio < limits.LOW_UPDATE["adapter" if about.adapter else "whole"]
    return Finding(
        sentence,
        suggest_higher(about, 3) if low else message(
            "The weights do change: check the labels (data.mask) and the chat format. Or the model knows these data "
            "already."
        ),
        values,
    )


@RULES.add("overfit", "note", at=Moment.evaluation)
def check_overfit(seen: TrainingFacts) -> Finding | None:
    """The validation loss rose in three evaluations in a row while the training loss fell.

    Validation up and training down since the best evaluation.
    """
    evaluations, n = seen.history.evaluations, limits.EVALUATIONS
    if seen.about.kind.rolls_out or len(evaluations) <= n:
        return None
    last = evaluations[-n - 1 :]
    best, now = min(evaluations, key=lambda e: e.val), last[-1]
    # Four values without a trend are in ascending order once in 24 times; the least rise below excludes most of these.
    rises = all(b.val > a.val for a, b in pairwise(last))
    if not rises or now.val - best.val < limits.OVERFIT_RISE * abs(best.val) or not now.train < last[0].train:
        return None
    return Finding(
        message(
            "The validation loss has risen in {count} evaluations in a row ({best:.4g} at step {step}, {now:.4g} now) "
            "while the training loss falls; the best checkpoint is that of step {step}.",
            count=n, best=best.val, step=best.step, now=now.val,
        ),
        message(
            "Use checkpoints/best, fewer trainer.epochs or a lower optim.lr; judge by the samples, not by this number "
            "alone."
        ),
        {"best_step": best.step, "best": best.val, "now": now.val, "train_then": last[0].train, "train_now": now.train},
    )


def _report_above(seen: TrainingFacts) -> Finding:
    now, first, chance = seen.history.last["train/loss"], _get_first_loss(seen), math.log(seen.about.vocab)
    return Finding(
        message(
            "The loss is {now:.3g}, it was {before:.3g} at the start, and a model that has learned nothing has "
            "ln({vocabulary:,}) = {chance:.3g}.{best}",
            now=now, before=first, vocabulary=seen.about.vocab, chance=chance, best=_describe_best(seen),
        ),
        suggest_lower(seen.about), {"before": first, "now": now, "ln_vocabulary": chance},
    )


def _is_above(seen: TrainingFacts, row: Row) -> bool:
    """Whether a step's loss is clearly above that of a model that has learned nothing, and above the run's first loss.
    """
    about = seen.about
    if not about.kind.next_token or not about.declared_loss.likelihood or "train/loss" not in row:
        return False
    # The mean of few labels scatters: the margin grows as one over the root of their number.
    margin = limits.ABOVE_CHANCE * max(1.0, math.sqrt(limits.FIRST_LABELS / max(row["labels"], 1)))
    return bool(row["train/loss"] > max(math.log(about.vocab), _get_first_loss(seen)) + margin)


def _is_clearly_above(seen: TrainingFacts) -> bool:
    """Whether one loss is above chance in the first steps or far above it later, or else two in a row: one odd batch
    may pass."""
    newest = seen.history.get_newest(2)
    if not _is_above(seen, newest[-1]):
        return False
    far = newest[-1]["train/loss"] > limits.ABOVE_FAR * max(math.log(seen.about.vocab), _get_first_loss(seen))
    return far or seen.history.step <= limits.ABOVE_EARLY or _is_above(seen, newest[0])


def _get_first_loss(seen: TrainingFacts) -> float:
    """The first loss that was seen, 0 where there is none."""
    return next(iter(get_column(seen.history.first, "train/loss")), 0.0)


def _count_jump_steps(seen: TrainingFacts) -> int:
    """Returns how many high losses in a row are a jump; more if a step has few pairs."""
    about = seen.about
    if about.kind.next_token or seen.history.step <= limits.JUMP_KNOWN:
        return limits.JUMP_STEPS
    return max(limits.JUMP_STEPS, math.ceil(limits.JUMP_FEW / about.batch_size))


def _compute_jump_margin(seen: TrainingFacts, before: list[float]) -> float:
    """Returns the rise above the level that the noise between steps cannot explain."""
    if seen.about.declared_loss.squared:
        if len(before) < limits.BEFORE_SPIKE:
            return math.inf
        return max((limits.UNBOUNDED_SPIKE - 1) * statistics.median(before), limits.JUMP_NOISE * estimate_noise(before))
    if len(before) >= limits.JUMP_KNOWN:
        return max(limits.JUMP_NATS, limits.JUMP_NOISE * estimate_noise(before))
    # The difference of a mean of one batch and one of len(before) batches.
    return max(limits.JUMP_NATS, limits.JUMP_EXAMPLES * math.sqrt((1 + 1 / len(before)) / seen.about.batch_size))


def _compute_level(losses: list[float]) -> float:
    """Returns the lowest median of a few losses in a row: a loss that climbs does not raise it."""
    n = min(limits.LEVEL_STEPS, len(losses))
    # The median of a window ignores one odd batch, the minimum over windows a climb.
    return min(statistics.median(losses[i : i + n]) for i in range(len(losses) - n + 1))


def _describe_best(seen: TrainingFacts) -> UserMessage:
    known = [e for e in seen.history.evaluations if math.isfinite(e.val)]
    if not known:
        return message("")
    return message(" The best evaluation was that of step {step}.", step=min(known, key=lambda e: e.val).step)


def suggest_higher(about: About, times: float) -> UserMessage:
    """Returns the remedy for a learning rate that is too low; never one above the usual range of the run."""
    if about.lr >= about.highest_lr and about.adapter:
        return message(
            "optim.lr={lr:g} is at the top of the usual range already: train longer (trainer.epochs), or use a larger "
            "method.rank or method=full.",
            lr=about.lr,
        )
    if about.lr >= about.highest_lr:
        return message(
            "optim.lr={lr:g} is at the top of the usual range already: train longer (trainer.epochs).", lr=about.lr
        )
    return message("Raise optim.lr to {lr:.2g}.", lr=min(times * about.lr, about.highest_lr))


def suggest_lower(about: About) -> UserMessage:
    """Returns the remedy for a learning rate that is too high: a tenth, but not less than is usual."""
    lr = about.lr / 10
    return message("Lower optim.lr to {lr:.2g} and start again.", lr=max(lr, min(about.lowest_lr, about.lr / 2)))


def format_share(ratio: float) -> str | UserMessage:
    """Formats a share of the weights."""
    return f"{ratio:.2%}" if ratio >= 1e-3 else message("{ratio:.1e} of their size", ratio=ratio)
