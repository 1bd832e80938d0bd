"""The first loss, and losses of nothing."""

from __future__ import annotations

import math

from fulgurite.monitor import thresholds as limits
from fulgurite.monitor.history import TrainingFacts
from fulgurite.monitor.rules import RULES, Moment
from fulgurite.rules.registry import Finding, Severity


@RULES.add("step-zero", "stop", at=Moment.step)
def check_step_zero(seen: TrainingFacts) -> Finding | None:
    """The first loss is not what an untrained adapter or head on this model gives (sft, pt, rm).

    Of a model that was not trained yet. dpo, kto, grpo and ppo check theirs themselves.
    """
    row, about = seen.history.last, seen.about
    if row["step"] != 1 or "train/loss" not in row:
        return None
    loss = row["train/loss"]
    if about.kind.gives_rewards:
        guesses = about.new_head and not about.margins
        return _report_guessing(loss) if guesses and abs(loss - math.log(2)) > limits.LN2_OFF else None
    if not about.kind.next_token or not about.declared_loss.likelihood or row["labels"] < limits.FIRST_LABELS:
        return None
    values: dict[str, float | int | str] = {"loss": loss, "ln_vocabulary": math.log(about.vocab)}
    if loss > math.log(about.vocab) + limits.ABOVE_CHANCE:
        return Finding(
            f"The first loss is {loss:.2f}, and a model that knows nothing has ln({about.vocab:,}) = "
            f"{math.log(about.vocab):.2f}: weights "
            "and tokenizer are not of one model, or the weights are damaged.",
            "Take the model's own tokenizer and load its files again.", values,
        )
    if loss < limits.KNOWN_ALREADY:
        return Finding(
            f"The first loss is {loss:.3f}, where text that is new to a model gives 0.3 to 4: the answers stand in "
            f"their prompts, or the "
            "model has learned these data before.",
            "Look at a few rows of the data, and at data.mask.", values, Severity.warning,
        )
    return None


def _report_guessing(loss: float) -> Finding:
    return Finding(
        f"The first loss is {loss:.3f}, and a reward model whose head begins at zero has ln 2 = 0.693: its rewards "
        f"are not its head's.",
        "Begin from another model.", {"loss": loss, "expected": math.log(2)},
    )


@RULES.add("labels-empty", "stop", at=Moment.step)
def check_labels_empty(seen: TrainingFacts) -> Finding | None:
    """A step has no label token to learn from; in grpo and ppo a warning.

    Under privacy a step may draw no row, and does not lie by it.
    """
    row, about = seen.history.last, seen.about
    if row["labels"] > 0 or about.private:
        return None
    if about.kind.rolls_out:
        return Finding(
            "A step has no token to learn from: all of its answers hit the limit and are left out.",
            "Raise stage.max_new_tokens, or set stage.mask_truncated=false.", {"labels": 0}, Severity.warning,
        )
    return Finding(
        "A step has no label token to learn from: masking or cutting took them all.",
        "Raise data.max_length, or look at data.mask.", {"labels": 0},
    )


@RULES.add("loss-zero", "stop", at=Moment.step)
def check_loss_zero(seen: TrainingFacts) -> Finding | None:
    """Three losses in a row are zero though there are labels; a warning where pairs are compared.

    A rollout's loss is near zero by its nature, and a hinge is zero behind its margin: they are not looked at.
    """
    about, rows = seen.about, seen.history.get_newest(limits.ZERO_STEPS)
    if about.kind.rolls_out or about.declared_loss.reaches_zero or len(rows) < limits.ZERO_STEPS:
        return None
    if not all(row["labels"] > 0 and abs(row.get("train/loss", 1.0)) < limits.ZERO_LOSS for row in rows):
        return None
    labels = int(rows[-1]["labels"])
    return Finding(
        f"The loss is {rows[-1]['train/loss']:.1g} with {labels:,} label tokens in the step: 16 bits overflow, "
        f"attention is broken, or "
        "the data are the same few answers.",
        "Take precision=fp32 or model.attention=eager, and look for "
        "duplicates.", {"loss": rows[-1]["train/loss"], "labels": labels},
        None if about.kind.next_token else Severity.warning,
    )
