"""Rules about pairs and groups of answers: both become less likely, sides that are swapped, a reward without
differences."""

from __future__ import annotations

import math
import statistics

from fulgurite.language.message import message
from fulgurite.monitor import thresholds as limits
from fulgurite.monitor.history import Row, TrainingFacts, get_column
from fulgurite.monitor.rules import RULES, Moment
from fulgurite.monitor.rules.loss_curve import suggest_higher
from fulgurite.monitor.statistics import compute_error_of_difference, compute_wilson_interval
from fulgurite.rules.registry import Finding

DPO = ("train/logp_chosen", "train/reward_chosen", "train/reward_rejected")


@RULES.add("dpo-falls", "note", at=Moment.step)
def check_dpo_falls(seen: TrainingFacts) -> Finding | None:
    """Chosen answers become less likely while the margin grows.

    In nats of the chosen answer; against its own reference if there is one, so that the lengths of other pairs do not
    count.
    """
    about, history, n = seen.about, seen.history, limits.DPO_WINDOW
    if (
        not about.pairs
        or not _has_measures(seen, *DPO)
        or about.declared_loss.lowers_chosen
        or not history.whole
        or history.step < 2 * n
    ):
        return None
    first, now = history.first[:n], history.get_newest(n)
    before, after = get_column(first, "train/logp_chosen"), get_column(now, "train/logp_chosen")
    start = statistics.fmean(before)
    if about.paired:
        # A log ratio compares each answer with itself: how likely the answers of two batches are makes no difference.
        fall = (_average_reward(first, "chosen") - _average_reward(now, "chosen")) / about.beta
    else:
        fall = start - statistics.fmean(after)
        if fall <= limits.FALL_ERRORS * compute_error_of_difference(before, after):
            return None
    margins = [_average_reward(rows, "chosen") - _average_reward(rows, "rejected") for rows in (first, now)]
    if fall <= limits.CHOSEN_FALL * abs(start) or margins[1] <= margins[0]:
        return None
    return Finding(
        message(
            "Both answers become less likely: the chosen one has lost {fall:.3g} of {start:.3g} nats, and the margin "
            "grows ({before:.3g} → {now:.3g}) because the rejected one loses more. Up to a point this is usual in DPO.",
            fall=fall, start=abs(start), before=margins[0], now=margins[1],
        ),
        message("stage.sft_weight=0.2 keeps the chosen answer likely; a lower optim.lr slows both."),
        {"fall": fall, "start": start, "margin_first": margins[0], "margin_now": margins[1]},
    )


@RULES.add("dpo-wrong", "warning", at=Moment.step)
def check_dpo_wrong(seen: TrainingFacts) -> Finding | None:
    """The rejected answer is preferred more often than chance explains.

    The interval of the accuracy is below one half: after fifty steps at 95 %, before that far beyond chance.
    """
    about, n = seen.about, limits.WRONG_STEPS
    if not about.pairs or not _has_measures(seen, "train/accuracy"):
        return None
    early = _is_learning_the_opposite(seen)
    if seen.history.step < 2 * n and not early:
        return None
    accuracies = get_column(seen.history.get_newest(limits.WRONG_EARLY if early else n), "train/accuracy")
    accuracy, pairs = statistics.fmean(accuracies), len(accuracies) * about.batch_size
    # A step has batch_size pairs: the interval is about pairs, not about steps.
    high = compute_wilson_interval(accuracy, pairs)[1]
    if high >= 0.5 or (not early and len(accuracies) < n):
        return None
    return Finding(
        message(
            "The chosen answer is preferred in {accuracy:.0%} of the last {pairs:,} pairs; an untrained model would "
            "prefer it in half. The run learns the opposite, or chosen and rejected are swapped.",
            accuracy=accuracy, pairs=pairs,
        ),
        message("Check a few pairs of the data; then lower optim.lr."),
        {"accuracy": accuracy, "pairs": pairs, "upper": high},
    )


@RULES.add("rm-stuck", "warning", at=Moment.step)
def check_rm_stuck(seen: TrainingFacts) -> Finding | None:
    """A reward model's accuracy does not differ from guessing.

    Checked after 200 steps or at the end of a shorter run: is the interval of the accuracy above one half? Earlier if
    it is below.
    """
    about, history = seen.about, seen.history
    if not about.kind.gives_rewards or not _has_measures(seen, "train/accuracy"):
        return None
    short = limits.STUCK_SHORT <= about.total < limits.STUCK_STEPS
    early = _is_learning_the_opposite(seen)
    if history.step != (about.total if short else limits.STUCK_STEPS) and not early:
        return None
    accuracies = get_column(history.get_newest(limits.WRONG_EARLY if early else history.step // 2), "train/accuracy")
    accuracy, pairs = statistics.fmean(accuracies), len(accuracies) * about.batch_size
    low, high = compute_wilson_interval(accuracy, pairs)
    if low > 0.5:
        return None
    return Finding(
        message(
            "The accuracy over the last {pairs:,} pairs is {accuracy:.0%} (95 % interval {low:.0%} to {high:.0%}), and "
            "the loss {loss:.3f}: no better than guessing, which has 50 % and ln 2 = 0.693.",
            pairs=pairs, accuracy=accuracy, low=low, high=high, loss=history.last["train/loss"],
        ),
        message("Check a few pairs; use more of them, or clearer ones. {remedy}", remedy=suggest_higher(about, 3)),
        {"accuracy": accuracy, "low": low, "high": high, "pairs": pairs, "loss": history.last["train/loss"]},
    )


@RULES.add("ties", "warning", at=Moment.step)
def check_ties(seen: TrainingFacts) -> Finding | None:
    """Nearly all groups of answers have a single reward, so that nothing can be learned from them (grpo).

    Over five rollouts, each counted once.
    """
    each = seen.about.rollout_steps
    # All steps of a rollout have the share of that rollout: every `each`-th counts it once.
    shares = get_column(seen.history.get_newest(limits.TIE_ROLLOUTS * each), "train/ties")[::each]
    if len(shares) < limits.TIE_ROLLOUTS or min(shares) <= limits.TIES:
        return None
    return Finding(
        message(
            "In {share:.0%} of the groups all answers got the same reward, and a group without a difference teaches "
            "nothing.",
            share=statistics.fmean(shares),
        ),
        message(
            "Use prompts of medium difficulty, a reward with more levels, a larger stage.num_generations, or a higher "
            "stage.temperature."
        ),
        {"ties": statistics.fmean(shares)},
    )


def _has_measures(seen: TrainingFacts, *names: str) -> bool:
    """Whether the stage measures all of these; one from another package may not."""
    return all(name in seen.history.last for name in names)


def _is_learning_the_opposite(seen: TrainingFacts) -> bool:
    """Whether the newest steps prefer the rejected answers far beyond chance, with margins that are negative and not
    merely zero.

    A model that has not moved yet has margins of zero, which count as wrong.
    """
    rows = seen.history.get_newest(limits.WRONG_EARLY)
    accuracies, margins = get_column(rows, "train/accuracy"), get_column(rows, "train/reward_margin")
    if len(accuracies) < limits.WRONG_EARLY or len(margins) < limits.WRONG_EARLY:
        return False
    pairs = len(accuracies) * seen.about.batch_size
    # The mean is below zero by WRONG_SURE of its standard errors, s / sqrt(n).
    negative = statistics.fmean(margins) < -limits.WRONG_SURE * statistics.stdev(margins) / math.sqrt(len(margins))
    return negative and compute_wilson_interval(statistics.fmean(accuracies), pairs, limits.WRONG_SURE)[1] < 0.5


def _average_reward(rows: list[Row], side: str) -> float:
    return statistics.fmean(get_column(rows, f"train/reward_{side}"))
