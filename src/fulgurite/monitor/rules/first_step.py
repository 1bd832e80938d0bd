"""Rules about the first loss, and about losses of zero."""

from __future__ import annotations

import math

from fulgurite.language.message import UserMessage, message
from fulgurite.monitor import thresholds as limits
from fulgurite.monitor.history import TrainingFacts
from fulgurite.monitor.rules import RULES, Moment
from fulgurite.rules.registry import Finding, Severity


@RULES.add("step-zero", "stop", at=Moment.step)
def check_step_zero(seen: TrainingFacts) -> Finding | None:
    """The first loss is not what an untrained adapter or head on this model gives (sft, pt, rm).

    Only for a model that starts here: dpo, kto, grpo and ppo check their own first loss.
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
            message(
                "The first loss is {loss:.2f}, but a model that has learned nothing has ln({vocabulary:,}) = "
                "{chance:.2f}: weights and tokenizer are of different models, or the weights are damaged.",
                loss=loss, vocabulary=about.vocab, chance=math.log(about.vocab),
            ),
            message("Use the model's own tokenizer and download its files again."), values,
        )
    if loss < limits.KNOWN_ALREADY:
        return Finding(
            message(
                "The first loss is {loss:.3f}; text that is new to a model gives 0.3 to 4. The answers are in their "
                "prompts, or the model has been trained on these data before.",
                loss=loss,
            ),
            message("Check a few examples with `fulgurite plan --show 5`, and data.mask."), values, Severity.warning,
        )
    return None


def _suggest_exact(seen: TrainingFacts) -> UserMessage:
    """Returns what rules out overflow and attention, as far as it is not so already."""
    if seen.about.exact:
        return message("Look for duplicates in the data, and try model.attention=eager.")
    return message("Use precision=fp32 or model.attention=eager, and look for duplicates in the data.")


def _report_guessing(loss: float) -> Finding:
    return Finding(
        message(
            "The first loss is {loss:.3f}; a reward model whose head starts at zero has ln 2 = 0.693. Its rewards do "
            "not come from its head.",
            loss=loss,
        ),
        message("Start from another model."), {"loss": loss, "expected": math.log(2)},
    )


@RULES.add("labels-empty", "stop", at=Moment.step)
def check_labels_empty(seen: TrainingFacts) -> Finding | None:
    """A step has no label token to learn from; in grpo and ppo a warning.

    Not under privacy, where a step may draw no example.
    """
    row, about = seen.history.last, seen.about
    if row["labels"] > 0 or about.private:
        return None
    if about.kind.rolls_out:
        return Finding(
            message("The step has no token to learn from: all of its answers reach the limit and are left out."),
            message("Raise stage.max_new_tokens, or set stage.mask_truncated=false."), {"labels": 0}, Severity.warning,
        )
    return Finding(
        message("The step has no label token to learn from: masking or cutting removed all of them."),
        message("Raise data.max_length, or check data.mask."), {"labels": 0},
    )


@RULES.add("loss-zero", "stop", at=Moment.step)
def check_loss_zero(seen: TrainingFacts) -> Finding | None:
    """Three losses in a row are zero although there are labels; in preference stages a warning.

    The loss of a rollout is near zero by nature, and a hinge loss is zero beyond its margin: neither is checked.
    """
    about, rows = seen.about, seen.history.get_newest(limits.ZERO_STEPS)
    if about.kind.rolls_out or about.declared_loss.reaches_zero or len(rows) < limits.ZERO_STEPS:
        return None
    if not all(row["labels"] > 0 and abs(row.get("train/loss", 1.0)) < limits.ZERO_LOSS for row in rows):
        return None
    labels = int(rows[-1]["labels"])
    return Finding(
        message(
            "The loss is {loss:.1g} with {labels:,} label tokens in the step: 16-bit numbers overflow, attention is "
            "broken, or the data are the same few answers.",
            loss=rows[-1]["train/loss"], labels=labels,
        ),
        _suggest_exact(seen), {"loss": rows[-1]["train/loss"], "labels": labels},
        None if about.kind.next_token else Severity.warning,
    )
