"""Rules about the sample answers: without an end, repeated, or as before training."""

from __future__ import annotations

import re
from typing import Any

from fulgurite.language.message import UserMessage, message
from fulgurite.monitor import thresholds as limits
from fulgurite.monitor.history import TrainingFacts
from fulgurite.monitor.rules import RULES, Moment
from fulgurite.monitor.rules.loss_curve import suggest_higher, suggest_lower
from fulgurite.monitor.statistics import compute_wilson_interval
from fulgurite.rules.registry import Finding

PIECES = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]|\w+|[^\w\s]")
"""A word, a mark, or a sign of a writing without spaces."""
OVER_AND_OVER = re.compile(rf"(\S{{1,24}}?)(?:\s*\1){{{limits.COLLAPSED_PIECES - 1},}}")
"""One word, mark or sign and nothing else."""


@RULES.add("samples-endless", "warning", at=Moment.samples)
def check_samples_endless(seen: TrainingFacts) -> Finding | None:
    """Sampled answers reach the limit although the trained ones are shorter.

    Only if the trained answers fit into the limit: in the second half of the run, and earlier if more answers ended
    before.
    """
    about, rows = seen.about, _select_newest(seen)
    fits = about.answer_tokens is not None and about.answer_tokens <= about.max_new_tokens
    if about.kind.reads.running_text or not fits or len(rows) < limits.PROMPTS or rows[0]["step"] == 0:
        return None
    # Without samples from before training the newest are compared with themselves, so the first half has no finding.
    endless, before = (sum(not row["stopped"] for row in some) for some in (rows, _select_step(seen, 0) or rows))
    if 2 * rows[0]["step"] < about.total and endless <= before:
        return None
    if compute_wilson_interval(endless / len(rows), len(rows))[0] <= limits.ENDLESS:
        return None
    return Finding(
        message(
            "{endless} of {count} sample answers do not end within stage.max_new_tokens={limit}, but nine of ten "
            "trained ones have at most {tokens} tokens.",
            endless=endless, count=len(rows), limit=about.max_new_tokens, tokens=about.answer_tokens,
        ),
        message(
            "First check whether the end token is in the labels (the tokenizer's own chat format has it). Then train "
            "longer (trainer.epochs)."
        ),
        {"endless": endless, "samples": len(rows), "answer_tokens": about.answer_tokens or 0},
    )


@RULES.add("samples-repeat", "warning", at=Moment.samples)
def check_samples_repeat(seen: TrainingFacts) -> Finding | None:
    """Sampled answers repeat themselves.

    More than before training: a small model repeats itself when it decodes greedily.
    """
    rows = _select_newest(seen)
    if seen.about.kind.reads.running_text or len(rows) < limits.PROMPTS or rows[0]["step"] == 0:
        return None
    before = _count_repeating(_select_step(seen, 0))
    now = _count_repeating(rows)
    if compute_wilson_interval(now / len(rows), len(rows))[0] <= limits.ENDLESS or now <= before:
        return None
    return Finding(
        message(
            "{now} of {count} sample answers repeat themselves (more than {share:.0%} of their 4-grams occurred "
            "before); {before} did before training.",
            now=now, count=len(rows), share=limits.REPEATED, before=before,
        ),
        message("Lower optim.lr or use fewer trainer.epochs; look for examples that repeat themselves."),
        {"repeating": now, "before": before, "samples": len(rows)},
    )


@RULES.add("samples-collapse", "warning", at=Moment.samples)
def check_samples_collapse(seen: TrainingFacts) -> Finding | None:
    """Sampled answers are all empty, all one token repeated, or all the same.

    To different prompts, and not so before training. One short answer to all of them is no collapse if the trained
    answers are as short.
    """
    rows = _select_newest(seen)
    if len(rows) < limits.PROMPTS or rows[0]["step"] == 0:
        return None
    fault = _find_collapse(rows, seen.about.answer_tokens)
    if fault is None or _find_collapse(_select_step(seen, 0), seen.about.answer_tokens) is not None:
        return None
    return Finding(
        message("All {count} sample answers {fault}: the model has collapsed.", count=len(rows), fault=fault),
        message("{remedy} Look for one answer that fills the data.", remedy=suggest_lower(seen.about)),
        {"samples": len(rows), "step": int(rows[0]["step"])},
    )


@RULES.add("before-after", "warning", at=Moment.end)
def check_before_after(seen: TrainingFacts) -> Finding | None:
    """The model answers the sample prompts as before training.

    The same prompts, decoded greedily, at step 0 and now.
    """
    old, new = {row["prompt"]: row["answer"] for row in _select_step(seen, 0)}, _select_newest(seen)
    pairs = [(old[row["prompt"]], row["answer"]) for row in new if row["step"] > 0 and row["prompt"] in old]
    same = sum(a == b for a, b in pairs)
    if len(pairs) < limits.PROMPTS or same <= limits.SAME * len(pairs):
        return None
    return Finding(
        message(
            "The model answers {same} of {count} prompts as before: the rate (optim.lr={lr:g}) is too low, {steps} "
            "steps are too few, or the prompts are unlike the data.",
            same=same, count=len(pairs), lr=seen.about.lr, steps=seen.about.total,
        ),
        message(
            "{remedy} More trainer.epochs or a smaller trainer.global_batch_size give more steps.",
            remedy=suggest_higher(seen.about, 3),
        ),
        {"same": same, "prompts": len(pairs), "lr": seen.about.lr, "steps": seen.about.total},
    )


def measure_repetition(text: str) -> float:
    """Returns the share of a text's 4-grams that occurred in it before; 0 for a text that is too short to judge."""
    pieces = PIECES.findall(text)
    grams = [tuple(pieces[i : i + 4]) for i in range(len(pieces) - 3)]
    return 1 - len(set(grams)) / len(grams) if len(grams) >= limits.GRAMS else 0.0


def _find_collapse(rows: list[dict[str, Any]], answer_tokens: int | None) -> UserMessage | None:
    """Returns the fault that all answers have in common, or None."""
    pieces = [PIECES.findall(str(row["answer"])) for row in rows]
    if len(rows) < limits.PROMPTS or len({row["prompt"] for row in rows}) < limits.PROMPTS:
        return None
    if not any(pieces):
        return message("are empty")
    if all(OVER_AND_OVER.fullmatch(str(row["answer"]).strip()) for row in rows):
        return message("repeat one token")
    longest = max(row["tokens"] for row in rows)
    # The same short answer to all prompts may be right, for example in data of yes and no.
    short = len(pieces[0]) < limits.COLLAPSED_PIECES and (
        answer_tokens is None or answer_tokens < limits.COLLAPSED_SHORTER * longest
    )
    return None if short or any(some != pieces[0] for some in pieces) else message("are the same")


def _count_repeating(rows: list[dict[str, Any]]) -> int:
    return sum(measure_repetition(str(row["answer"])) > limits.REPEATED for row in rows)


def _select_step(seen: TrainingFacts, step: int) -> list[dict[str, Any]]:
    return [dict(row) for row in seen.samples if row["step"] == step]


def _select_newest(seen: TrainingFacts) -> list[dict[str, Any]]:
    return _select_step(seen, max((row["step"] for row in seen.samples), default=0))
